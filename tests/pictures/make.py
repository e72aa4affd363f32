"""Makes the pictures of tests/own_data.rs with Pillow, another hand than the library's, and what is in them.

Each is 28 x 28 and lies in folder/class; expected.bin has their 784 grey bytes each, in the order of the
files' names. Needs Pillow 13 and NumPy.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

os.chdir(Path(__file__).parent / "folder/class")
rows, columns = np.mgrid[0:28, 0:28]
# Smooth, so that JPEG keeps it, and without any symmetry.
red = (4 * rows + 5 * columns).astype(np.uint8)
green = (200 - 3 * rows - columns).astype(np.uint8)
blue = (9 * np.abs(rows - columns)).astype(np.uint8)
color = Image.fromarray(np.dstack([red, green, blue]))
gray = Image.fromarray(red)
alpha = Image.fromarray((255 - 9 * columns).astype(np.uint8))
expected = {}


def grey_of(image):
    """As seen before black."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return np.asarray(image.convert("L"), np.uint8)


def save(name, image, **options):
    image.save(name, **options)
    expected[name] = grey_of(Image.open(name))


save("gray.png", gray)
save("bits.png", gray.convert("1"))
save("color.png", color)
save("palette.png", color.quantize(20))
save("palette_alpha.png", gray.quantize(16), transparency=bytes(range(255, 0, -16)))
save("gray_alpha.png", Image.merge("LA", [gray, alpha]))
save("color_alpha.png", Image.merge("RGBA", [*color.split(), alpha]))
save("animated.png", color, save_all=True, append_images=[ImageOps.invert(color)], duration=100)
save("gray.jpg", gray, quality=95)
save("color.jpg", color, quality=95, subsampling=0)
save("progressive.jpg", color, quality=95, progressive=True)
save("cmyk.jpg", color.convert("CMYK"), quality=95)
save("gray.bmp", gray)
save("color.bmp", color)
save("palette.bmp", color.quantize(20))
save("bits.pbm", gray.convert("1"))
save("gray.pgm", gray)
save("color.ppm", color)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(f"turned_{orientation}.png", color, exif=exif)
save("turned.jpg", color, quality=95, subsampling=0, exif=exif)

# Pillow clips 16 bits to 8 where it should round.
deep = (rows * 2341 + columns * 83).astype(np.uint16)
Image.fromarray(deep).save("deep.png")
expected["deep.png"] = np.round(deep / 257).astype(np.uint8)
Path("deep.pgm").write_bytes(b"P5\n28 28\n65535\n" + deep.astype(">u2").tobytes())
expected["deep.pgm"] = expected["deep.png"]
Path("plain.pgm").write_bytes(b"P2 # text\n28 28\n100\n" + " ".join(str(x) for x in (rows + columns).flat).encode() + b"\n")
expected["plain.pgm"] = np.round((rows + columns) * 255 / 100).astype(np.uint8)
Path("alpha.pam").write_bytes(
    b"P7\nWIDTH 28\nHEIGHT 28\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    + Image.open("color_alpha.png").tobytes()
)
expected["alpha.pam"] = expected["color_alpha.png"]

names = sorted(expected)
assert sorted(os.listdir()) == names
Path("../../expected.bin").write_bytes(b"".join(expected[name].tobytes() for name in names))
