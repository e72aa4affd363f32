"""Pictures of digits as people make them, from MNIST's own: 28 x 28, white on black."""

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 28


def larger(digit, factor):
    side = round(SIDE * factor)
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def on_sheet(digit, side, rng=None):
    """On a black sheet, in the middle or anywhere."""
    free = side - digit.shape[0]
    top, left = (free // 2, free // 2) if rng is None else rng.integers(0, free + 1, 2)
    sheet = np.zeros((side, side), np.uint8)
    sheet[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return sheet


def on_paper(ink, rng, noise=3.0):
    """Dark ink on grey paper in light that comes from one side and falls off from the middle."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in ink.shape), indexing="ij")
    paper, angle, contrast = rng.uniform(140, 230), rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.9)
    light = 1 + 0.25 * (np.cos(angle) * x + np.sin(angle) * y) - 0.1 * (x * x + y * y)
    seen = paper * light * (1 - contrast * ink / 255.0)
    return np.clip(seen + rng.normal(0, noise, ink.shape), 0, 255).astype(np.uint8)


def photographed(digit, rng, factor=None, border=False):
    """Somewhere on paper, rotated by up to 8 degrees, blurred, with noise; with a desk at two edges."""
    factor = factor or rng.uniform(3, 8)
    digit = larger(digit, factor)
    side = round(digit.shape[0] * rng.uniform(1.1, 1.8))
    ink = ndimage.rotate(on_sheet(digit, side, rng), rng.uniform(-8, 8), reshape=False, order=1)
    seen = on_paper(ink, rng, 0).astype(float)
    if border:
        desk = side - round(side * 0.92)
        seen[:, :desk] = 30
        seen[side - round(desk * 0.7) :] = 30
    seen = ndimage.gaussian_filter(seen, factor * 0.25)
    return np.clip(seen + rng.normal(0, rng.uniform(4, 14), seen.shape), 0, 255).astype(np.uint8)


WAYS = {
    "clean": lambda digit, rng: digit,
    "black on white": lambda digit, rng: 255 - digit,
    "moved by up to 12": lambda digit, rng: on_sheet(digit, SIDE + 24, rng),
    "0.5 times as large": lambda digit, rng: larger(digit, 0.5),
    "0.7 times as large": lambda digit, rng: larger(digit, 0.7),
    "1.3 times as large": lambda digit, rng: larger(digit, 1.3),
    "2 times as large": lambda digit, rng: larger(digit, 2),
    "4 times as large": lambda digit, rng: larger(digit, 4),
    "8 times as large": lambda digit, rng: larger(digit, 8),
    "on a sheet of 300": lambda digit, rng: on_sheet(digit, 300, rng),
    "on a sheet of 600, black on white": lambda digit, rng: 255 - on_sheet(digit, 600, rng),
    "on grey uneven paper": lambda digit, rng: on_paper(on_sheet(digit, 44), rng),
    "on the same, 4 times as large": lambda digit, rng: on_paper(larger(digit, 4), rng),
    "light on dark uneven paper": lambda digit, rng: 255 - on_paper(larger(digit, 4), rng),
    "photographed": photographed,
    "photographed, 20 times as large": lambda digit, rng: photographed(digit, rng, 20),
    "photographed with a dark border": lambda digit, rng: photographed(digit, rng, border=True),
}
