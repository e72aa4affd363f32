"""Draws fashion_mnist.png, the README's picture: make -C examples data ../target/python-venv/ready, then
LENET_LIBRARY=target/release/liblenet.so target/python-venv/bin/python docs/figures/fashion_mnist.py"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a file is written; no display is needed
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "examples/python"))
import lenet  # noqa: E402
from train import FASHION, PLACES, open_folder  # noqa: E402

EPOCHS, ROWS, COLUMNS = 10, 4, 7
RIGHT, WRONG = "#1b7837", "#b2182b"


def main():
    folder = next(place for place in PLACES if place.is_dir())
    train, test = open_folder(folder, "train"), open_folder(folder, "t10k")
    model = lenet.LeNet("modern", seed=0)
    points = []

    def remember(progress):
        if progress.event == lenet.EPOCH_END:
            points.append((progress.epoch, progress.loss, progress.accuracy, progress.validation_accuracy))

    model.fit(train, validation=test, epochs=EPOCHS, progress=remember)
    images, labels = test.read(0, len(test))
    classes, probabilities = model.predict(images)

    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.5])
    draw_curves(left.subplots(), points)
    # The first test images as they come, so about one in nine is read wrong.
    for i, axis in enumerate(right.subplots(ROWS, COLUMNS).flat):
        axis.imshow(images[i], cmap="gray_r")
        axis.set_axis_off()
        color, guess = RIGHT, f"{FASHION[classes[i]]} {probabilities[i].max():.0%}"
        if classes[i] != labels[i]:
            color, guess = WRONG, f"{guess}\nis: {FASHION[labels[i]]}"
        axis.set_title(guess, fontsize=7.5, color=color)
    figure.savefig(HERE / "fashion_mnist.png", dpi=110)


def draw_curves(axes, points):
    epochs, losses, train, test = zip(*points)
    for values, label, style in (
        (losses, "training loss", "-"),
        (train, "training accuracy", "--"),
        (test, "test accuracy", "-."),
    ):
        axes.plot(epochs, values, style, marker="o", markersize=4, label=label)
    axes.set(xlabel="epoch", ylim=(0, 1), title=f"{EPOCHS} epochs of Fashion-MNIST, modern")
    axes.grid(alpha=0.4)
    axes.legend(loc="center right")


if __name__ == "__main__":
    main()
