#!/usr/bin/env python3
"""Makes a folder of PNG pictures, one folder a class, of Fashion-MNIST's IDX files: what people have of
their own, to try own_images.c and classify.c on.

    pictures_from_idx.py DATA OUT [--per-class N] [--new N]

DATA holds the four IDX files, plain or .gz. OUT/train/Trouser/0017.png, ... are the first N training
pictures of each class, OUT/new/Trouser-1.png, ... the first test pictures. Needs nothing but Python."""

import argparse
import gzip
import os
import shutil
import struct
import sys
import tempfile
import zlib

NAMES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def read_idx(folder, name):
    """The items of an IDX file of bytes, and their height and width where they are images."""
    path = os.path.join(folder, name)
    with gzip.open(path + ".gz") if os.path.exists(path + ".gz") else open(path, "rb") as file:
        data = file.read()
    if data[:3] != b"\0\0\x08" or len(data) <= 16:
        raise OSError(f"{path} is no IDX file of bytes")
    dimensions = data[3]
    n, *size = struct.unpack_from(f">{dimensions}I", data, 4)
    item = len(data[4 + 4 * dimensions :]) // n
    return [data[at : at + item] for at in range(4 + 4 * dimensions, len(data), item)], size


def png(pixels, height, width):
    """An 8-bit grey PNG file."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + pixels[row * width : (row + 1) * width] for row in range(height))
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def first_of_each_class(folder, part, n):
    """(name, number in its class, PNG file) of the first n images of each class."""
    images, (height, width) = read_idx(folder, f"{part}-images-idx3-ubyte")
    labels, _ = read_idx(folder, f"{part}-labels-idx1-ubyte")
    found = [0] * len(NAMES)
    for image, label in zip(images, labels):
        label = label[0]
        if found[label] < n:
            found[label] += 1
            yield NAMES[label], found[label], png(image, height, width)


def main():
    parser = argparse.ArgumentParser(description="Pictures of Fashion-MNIST, one folder a class.")
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--per-class", type=positive, default=150, metavar="N")
    parser.add_argument("--new", type=positive, default=1, metavar="N")
    arguments = parser.parse_args()
    if os.path.exists(arguments.out):
        sys.exit(f"{arguments.out} is there already")
    try:
        make(arguments)
    except OSError as error:
        sys.exit(str(error))


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def make(arguments):
    # Beside the goal, so that the last step is a rename: OUT appears only when it is whole.
    parent = os.path.dirname(os.path.abspath(arguments.out))
    os.makedirs(parent, exist_ok=True)
    work = tempfile.mkdtemp(dir=parent)
    try:
        for name, number, file in first_of_each_class(arguments.data, "train", arguments.per_class):
            write(os.path.join(work, "train", name, f"{number:04}.png"), file)
        for name, number, file in first_of_each_class(arguments.data, "t10k", arguments.new):
            write(os.path.join(work, "new", f"{name}-{number}.png"), file)
        os.chmod(work, 0o755)
        os.rename(work, arguments.out)
    except BaseException:
        shutil.rmtree(work)
        raise


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    main()
