"""Trains LeNet from Python and plots the curves: train.py [FOLDER | --made] [--epochs 10] [--out .]"""

import argparse
import os
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # a file is written; no display is needed
import matplotlib.pyplot as plt

import lenet

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
PLACES = [Path("/usr/share/datasets/fashion-mnist"), Path(__file__).resolve().parents[2] / "target/data/fashion-mnist"]


def open_folder(folder, part):
    def find(name):
        for path in (Path(folder) / name, Path(folder) / (name + ".gz")):
            if path.is_file():
                return path
        sys.exit(f"{Path(folder) / name}[.gz] is missing; `make -C examples data` fetches Fashion-MNIST")

    return lenet.Dataset.open(find(f"{part}-images-idx3-ubyte"), find(f"{part}-labels-idx1-ubyte"))


def made_data(n, seed):
    """Class k is a grating of stripes turned by k x 18 degrees, with any phase, in noise."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 10).astype(np.uint8)
    angle = (np.pi * labels / 10)[:, None, None]
    phase = random.uniform(0, 2 * np.pi, (n, 1, 1))
    y, x = np.mgrid[0:28, 0:28]
    wave = np.sin(2 * np.pi / 9 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return lenet.Dataset((128 + 90 * wave + random.integers(-30, 31, (n, 28, 28))).astype(np.uint8), labels)


def plot(path, curves):
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    for (name, points), style in zip(curves.items(), ("-", "--", "-.")):
        axes.plot(*zip(*points), style, marker="o", markersize=4, label=name)
    axes.set(xlabel="epoch", xlim=(0, None), ylim=(0, None), title="LeNet")
    axes.grid(alpha=0.4)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data = parser.add_mutually_exclusive_group()
    data.add_argument("folder", nargs="?", help="of the four IDX files; else LENET_DATA or what `make data` fetched")
    data.add_argument("--made", action="store_true", help="made-up images instead: takes seconds")
    parser.add_argument("--preset", choices=lenet.PRESETS, default="modern")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, help="256; with --made, 16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, help="learning rate; else the preset's")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for lenet.safetensors and training.png")
    arguments = parser.parse_args()
    if not arguments.out.is_dir():
        parser.error(f"--out {arguments.out}: no such folder")

    if arguments.made:
        train, test, names = made_data(400, 1), made_data(100, 2), [f"{18 * k} degrees" for k in range(10)]
    else:
        known = next((place for place in PLACES if place.is_dir()), None)
        folder = arguments.folder or os.environ.get("LENET_DATA") or known
        if folder is None:
            parser.error("no data: name a folder, or try --made; `make -C examples data` fetches Fashion-MNIST")
        train, test, names = open_folder(folder, "train"), open_folder(folder, "t10k"), FASHION
    batch = arguments.batch or (16 if arguments.made else 256)

    height, width = train.size
    options = {"learning_rate": arguments.lr} if arguments.lr is not None else {}
    model = lenet.LeNet(arguments.preset, seed=arguments.seed, height=height, width=width, **options)
    print(f"lenet {lenet.version()} ({lenet.build_info()}); {len(train)} training and {len(test)} test images")

    curves = {"train loss": [], "train accuracy": [], "test accuracy": []}
    shown = time.monotonic()

    def progress(now):
        nonlocal shown
        at = now.epoch - 1 + now.step / now.steps
        if now.event == lenet.EPOCH_END:
            curves["test accuracy"].append((at, now.validation_accuracy))
            print(
                f"epoch {now.epoch}/{now.epochs}  train loss {now.loss:.4f}  train accuracy {now.accuracy:.4f}"
                f"  test accuracy {now.validation_accuracy:.4f}  {now.images_per_second:.0f} images/s"
            )
        elif time.monotonic() - shown > 5:
            print(f"epoch {now.epoch}/{now.epochs}  step {now.step}/{now.steps}  train loss {now.loss:.4f}", flush=True)
            shown = time.monotonic()
        fifth = now.step * 5 // now.steps != (now.step - 1) * 5 // now.steps  # five points an epoch, as d2l plots it
        if now.event == lenet.STEP and fifth:
            curves["train loss"].append((at, now.loss))
            curves["train accuracy"].append((at, now.accuracy))

    try:
        model.fit(train, test, arguments.epochs, batch, progress)
    except KeyboardInterrupt:
        print("stopped; what was trained is kept")

    metrics = model.evaluate(test)
    print(f"test accuracy {metrics.accuracy:.4f} ({metrics.correct} of {metrics.count}), loss {metrics.loss:.4f}")

    images, labels = test.read(0, 8)
    classes, probabilities = model.predict(images)
    for label, guess, row in zip(labels, classes, probabilities):
        print(f"  true {names[label]:<12} predicted {names[guess]:<12} with {row[guess]:.3f}")

    saved = arguments.out / "lenet.safetensors"
    model.save(saved)
    again = lenet.LeNet.load(saved).predict(images)[1]
    assert np.array_equal(again, probabilities), "the loaded model predicts something else"
    plot(arguments.out / "training.png", {name: points for name, points in curves.items() if points})
    print(f"wrote {saved} and {arguments.out / 'training.png'}")


if __name__ == "__main__":
    main()
