"""Draws engine.svg, the figure of docs/engine.md: python3 docs/figures/engine.py."""

from html import escape
from pathlib import Path

INK, SOFT = "#1b1f24", "#57606a"
BLUE, GREEN, ORANGE, GREY = "#d6e6fb", "#d9f0dc", "#fde4c8", "#eef0f2"
parts = []


def text(x, y, words, size=12, anchor="middle", colour=INK, weight="normal"):
    parts.append(f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
                 f' font-weight="{weight}">{escape(words)}</text>')


def box(x, y, width, height, fill, *lines, size=12):
    parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{INK}"/>')
    first = y + height / 2 + 4 - (len(lines) - 1) * 7.5
    for i, line in enumerate(lines):
        text(x + width / 2, first + 15 * i, line, size if i == 0 else 11, colour=INK if i == 0 else SOFT)


def line(x1, y1, x2, y2, arrow=True, dashed=False):
    marker = ' marker-end="url(#arrow)"' if arrow else ""
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{SOFT}"{marker}{dashes}/>')


def zoom(x1, x2, y1, left, right, y2):
    """Two lines from a part to what it is drawn as below."""
    line(x1, y1, left, y2, arrow=False, dashed=True)
    line(x2, y1, right, y2, arrow=False, dashed=True)


def heading(y, words):
    text(20, y, words, 14, "start", weight="bold")


def batch(y):
    heading(y, "A batch is cut (256 images, AVX-512)")
    top = y + 12
    for i in range(2):
        box(20 + 470 * i, top, 470, 28, BLUE, f"slab {i}: 128 images")
    for i in range(8):
        box(20 + 117.5 * i, top + 50, 117.5, 36, GREEN, f"chunk {i}", "16 images")
    zoom(20, 490, top + 28, 20, 960, top + 50)
    box(20, top + 108, 350, 28, ORANGE, "AVX-512: one tile of 16 lanes")
    for i in range(2):
        box(20 + 175 * i, top + 142, 175, 28, ORANGE, f"AVX2: tile {i} of 8 lanes")
    zoom(20, 137.5, top + 86, 20, 370, top + 108)
    for i in range(16):
        box(430 + 30 * i, top + 124, 30, 28, GREY, f"{i}")
    text(430, top + 116, "a vector, 16 floats: one value of each image, image i in lane i", 12, "start")
    line(372, top + 138, 426, top + 138)
    return top + 170


def layout(y):
    heading(y, "A transformed map lies in memory: here conv2's input, [8 points][6 channels][3 columns][14 rows] of vectors")
    top = y + 12
    names = [
        (8, BLUE, "point {}", 117.5, (20, 960)),
        (6, GREEN, "channel {}", 156.7, (20, 960)),
        (3, ORANGE, "{}", 313.3, (20, 960)),
        (14, GREY, "row {}", 67.1, (20, 960)),
    ]
    columns = ["columns 0 to 3", "columns 4 to 7", "columns 8 and 9 (narrow: 6 points)"]
    for level, (count, fill, name, width, _) in enumerate(names):
        for i in range(count):
            words = columns[i] if count == 3 else name.format(i)
            box(round(20 + width * i, 1), top + 46 * level, width, 26, fill, words)
        if level:
            zoom(20, 20 + names[level - 1][3], top + 46 * level - 20, 20, 960, top + 46 * level)
    return top + 46 * 3 + 26


def path(y):
    heading(y, "The path of a tile, forward and back (28x28, padding 2)")
    top = y + 14
    forward = [
        ("pixels", "(28, 28)", "bytes or floats"),
        ("transformed rows", "[8][7][33]", "B' x along the row"),
        ("conv1 windows", "(14, 7) x 2 x 6 x 4", "activated 2x2"),
        ("pooled map", "[8][6][3][14]", "(6, 14, 14), B' x"),
        ("conv2 windows", "(5, 3) x 2 x 16 x 4", "activated 2x2"),
        ("features", "(400)", "(16, 5, 5)"),
        ("fc1, fc2, fc3", "120, 84, 10", "logits"),
    ]
    width, gap = 118, 19
    for i, lines in enumerate(forward):
        x = 20 + (width + gap) * i
        box(x, top, width, 58, BLUE, *lines, size=11.5)
        if i:
            line(x - gap, top + 29, x - 3, top + 29)
    back = [
        None,
        ("conv1's weights", "sums (8, 6, 5)", "no input gradient"),
        ("4 rows' gradient", "[8][6][7][4]", "unpool, slope, A y'"),
        ("its gradient", "[8][6][3][14]", "in its place"),
        ("gradient2", "[8][16][3][10]", "unpool, slope, A y'"),
        ("features' gradient", "(400)", ""),
        ("outputs' gradients", "120, 84, 10", "softmax - one-hot"),
    ]
    low = top + 92
    for i, lines in enumerate(back):
        x = 20 + (width + gap) * i
        if lines:
            box(x, low, width, 58, ORANGE, *(words for words in lines if words), size=11.5)
            if i < 6:
                line(x + width + gap, low + 29, x + width + 3, low + 29)
            line(x + width / 2, top + 58, x + width / 2, low - 3, arrow=True, dashed=True)
    text(20, low + 24, "Dashed: what is kept", 11, "start", SOFT)
    text(20, low + 38, "for the way back", 11, "start", SOFT)
    return low + 58


def sums(y):
    heading(y, "The gradient is summed in the order of the images, whoever computes it")
    top = y + 12
    for i, name in enumerate(["chunk 0", "chunk 1", "...", "chunk 7"]):
        box(20 + 108 * i, top, 108, 40, GREEN, *([name, "sums + panel"] if name != "..." else [name]))
    text(236, top + 58, "partials of slab 0: read from the first to the last", 11.5, colour=SOFT)
    line(452, top + 20, 487, top + 20)
    box(490, top, 120, 40, BLUE, "slab 0's gradient")
    box(490, top + 54, 120, 40, BLUE, "slab 1's gradient")
    text(475, top + 78, "the same of slab 1", 11.5, "end", SOFT)
    line(610, top + 20, 663, top + 40)
    line(610, top + 74, 663, top + 54)
    box(666, top + 27, 120, 40, BLUE, "gradient", "slab 0, then slab 1")
    line(786, top + 47, 833, top + 47)
    box(836, top + 27, 124, 40, GREY, "optimizer's step", "each element alone")
    return top + 94


bottom = 24
for draw in (batch, layout, path, sums):
    bottom = draw(bottom) + 36
size = f'width="980" height="{bottom - 16}"'
Path(__file__).with_suffix(".svg").write_text(
    f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 980 {bottom - 16}"'
    ' font-family="Helvetica, Arial, sans-serif" role="img">\n'
    "<title>How lenet's CPU engine cuts a batch, lays out a map, computes a tile and sums the gradient</title>\n"
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    f'<path d="M0 0 L8 4 L0 8 z" fill="{SOFT}"/></marker></defs>\n'
    f'<rect {size} fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n")
