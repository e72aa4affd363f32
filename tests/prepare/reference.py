"""What src/prepare does to a picture, in NumPy, SciPy and PIL: plain, slow, and of other people's functions
where there are some. make.py writes what it gives for tests/prepare.rs."""

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 256  # cells that a picture is looked at with, in each direction
SAMPLES = 24  # of them that paper is estimated from, in each direction
EIGHT = np.ones((3, 3), int)


class NoInk(Exception):
    pass


def gray(pixels, background):
    """(h, w), or (h, w, 3) RGB, or (h, w, 4) RGBA before a grey background."""
    if pixels.ndim == 2:
        return pixels
    luma = np.asarray(Image.fromarray(np.ascontiguousarray(pixels[..., :3])).convert("L"))
    if pixels.shape[2] == 3:
        return luma
    alpha = pixels[..., 3] / 255
    return np.floor(luma * alpha + background * (1 - alpha) + 0.5).astype(np.uint8)


def half_up(numerator, denominator):
    return max(1, int(np.floor(numerator / denominator + 0.5)))


def fitted(size, frame):
    (h, w), (H, W) = size, frame
    return (H, half_up(w * H, h)) if H / h <= W / w else (half_up(h * W, w), W)


def resized(picture, size):
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def resize(pixels, frame):
    picture = gray(pixels, 0)
    border = np.ones(picture.shape, bool)
    border[1:-1, 1:-1] = False
    out = np.full(frame, np.percentile(picture[border], 50, method="inverted_cdf"), np.uint8)
    h, w = fitted(picture.shape, frame)
    top, left = (frame[0] - h) // 2, (frame[1] - w) // 2
    out[top : top + h, left : left + w] = resized(picture, (h, w))
    return out


def cells(picture):
    """Means of k x k pixels, fewer at the far edges, so that a picture is looked at with SIDE x SIDE at most."""
    k = -(-max(picture.shape) // SIDE)
    sums, counts = picture.astype(np.int64), np.ones(picture.shape, np.int64)
    for axis in (0, 1):
        starts = np.arange(0, picture.shape[axis], k)
        sums, counts = (np.add.reduceat(x, starts, axis) for x in (sums, counts))
    return k, (2 * sums + counts) // (2 * counts)


def terms(shape, quadratic):
    y, x = ((2 * np.arange(n) + 1) / n - 1 for n in shape)
    y, x = np.meshgrid(y, x, indexing="ij")
    return np.stack([np.ones(shape), x, y] + ([x * x, x * y, y * y] if quadratic else []), -1)


def least_squares(a, b):
    """With a ridge on all but the constant, for pictures of one row."""
    ridge = np.sqrt(1e-4 * len(b)) * np.eye(a.shape[1])[1:]
    return np.linalg.lstsq(np.vstack([a, ridge]), np.concatenate([b, np.zeros(len(ridge))]))[0]


def paper(a):
    """A quadratic surface through most of the picture, and how much the paper strays from it. Least trimmed
    squares: from the densest half of the grey values, always to the half that fits best."""
    step = -(-max(a.shape) // SAMPLES)
    at = np.ix_(*(np.arange(min(step, n) // 2, n, step) for n in a.shape))
    samples = a[at].ravel().astype(float)
    half = -(-len(samples) // 2)
    order = np.sort(samples)
    widths = order[half - 1 :] - order[: len(order) - half + 1]
    low = int(np.argmin(widths))
    inliers = (samples >= order[low]) & (samples <= order[low + half - 1])
    for quadratic in (False, False, False, True, True, True):
        t = terms(a.shape, quadratic)
        st = t[at].reshape(len(samples), -1)
        fit = least_squares(st[inliers], samples[inliers])
        residual = np.abs(samples - st @ fit)
        inliers = residual <= np.sort(residual)[half - 1]
    noise = np.sort(residual)[-(-3 * len(samples) // 10) - 1] / 0.385
    inliers = residual <= max(3 * noise, 2.0)
    fit = least_squares(st[inliers], samples[inliers])
    return np.floor(np.clip(t @ fit, 0, 255) + 0.5).astype(int), noise


def inside(mask):
    """Without the lines at the picture's edges that are not paper: 19 of 20 cells or more."""
    top, left = 0, 0
    bottom, right = mask.shape
    while top < bottom and left < right:
        m = mask[top:bottom, left:right]
        t, b, l, r = (20 * line.sum() >= 19 * len(line) for line in (m[0], m[-1], m[:, 0], m[:, -1]))
        if not (t or b or l or r):
            return slice(top, bottom), slice(left, right)
        top, bottom, left, right = top + t, bottom - b, left + l, right - r
    return slice(0, 0), slice(0, 0)


def parts(d, threshold):
    """The mask of what may be ink, and its mass."""
    mask = d > threshold
    rect = inside(mask)
    kept, mass = parts_inside(d[rect], mask[rect])
    mask[:] = False
    mask[rect] = kept
    return mask, mass


def parts_inside(d, mask):
    labels, n = ndimage.label(mask, EIGHT)
    if n == 0:
        return mask, 0
    every = np.arange(1, n + 1)
    mass = ndimage.sum_labels(d, labels, every)
    boxes = ndimage.find_objects(labels)
    longer = np.array([max(s.stop - s.start for s in box) for box in boxes])
    sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    counts = [np.bincount(s, minlength=n + 1)[1:] for s in sides]
    covers = np.max([c * 10 >= 9 * len(s) for c, s in zip(counts, sides)], 0)
    around = sum(counts) * 4 >= sum(map(len, sides))
    ink = longer >= 4
    edge = (covers | around)
    if (ink & ~edge).any():
        ink &= ~edge
    if not ink.any():
        return np.zeros(d.shape, bool), 0
    touches = sum(counts) > 0
    heaviest = every[ink][np.argmax(mass[ink])] - 1
    if not touches[heaviest]:
        ink &= ~touches
    ink &= mass * 16 >= mass[heaviest]
    return np.isin(labels, every[ink]), mass[ink].sum()


BOX = 4


def look(picture, sign=None):
    """Where ink is and how much of it, in cells."""
    k, a = cells(picture)
    surface, noise = paper(a)
    raw = a - surface
    radius = min(max(a.shape) // 40, 0 if noise <= 2.4 else 1 if noise <= 7.2 else 2)
    window = 2 * radius + 1
    smooth = ndimage.uniform_filter(raw * 1.0, window, mode="nearest")
    smooth = np.floor(smooth + 0.5 + 1e-9).astype(int)
    threshold = max(5 * noise / window, 12.0)
    found = {s: parts(s * smooth, threshold) for s in ([1, -1] if sign is None else [sign])}
    sign = max(found, key=lambda s: found[s][1])
    mask, mass = found[sign]
    if mass == 0:
        raise NoInk
    def strength(d):  # dark ink takes a share of the light that paper gives back
        return 4 * d if sign > 0 else -1020 * d // np.maximum(surface, 1)

    values = np.sort(strength(smooth)[mask])
    contrast = values[-(-9 * len(values) // 10) - 1]
    near = ndimage.binary_dilation(mask, EIGHT)
    ink = np.where(near, np.clip((2 * 255 * strength(raw) + contrast) // (2 * contrast), 0, 255), 0).astype(np.uint8)
    dark = np.argwhere(mask & (strength(smooth) * BOX >= contrast))
    (top, left), (bottom, right) = dark.min(0), dark.max(0) + 1
    return k, sign, ink, (top, left, bottom, right)


def paper_colour(pixels):
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return 0
    return 255 if 2 * gray(pixels, 0).sum(dtype=int) < pixels[..., 3].sum(dtype=int) else 0


def glyph(pixels, frame):
    picture = gray(pixels, paper_colour(pixels))
    sign = None
    for _ in range(3):
        k, sign, ink, (top, left, bottom, right) = look(picture, sign)
        margin = max(bottom - top, right - left) // 2 + 1
        t, l = max(top - margin, 0) * k, max(left - margin, 0) * k
        b, r = min((bottom + margin) * k, picture.shape[0]), min((right + margin) * k, picture.shape[1])
        if k == 1 or 2 * max(b - t, r - l) > max(picture.shape):
            break
        picture = picture[t:b, l:r]
    ink = ink[top:bottom, left:right]
    inner = tuple(half_up(5 * side, 7) for side in frame)
    small = resized(ink, fitted(ink.shape, inner))
    h, w = small.shape
    y, x = (np.array(ndimage.center_of_mass(ink.astype(float))) + 0.5) * (h, w) / ink.shape
    top = int(np.clip(np.floor(frame[0] / 2 - y + 0.5), 0, frame[0] - h))
    left = int(np.clip(np.floor(frame[1] / 2 - x + 0.5), 0, frame[1] - w))
    out = np.zeros(frame, np.uint8)
    out[top : top + h, left : left + w] = small
    return out
