"""Copies of images as people make them: crops, and strong manipulations. Ours; Copydays' are other images.

A copy follows from the seed, the row and its kind.
"""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from limbeck.data.store.layout import Pixels

STRONG = 0
"""The kind of a strong copy; any other kind is a crop that removes so many percent of the area."""
CROPS = (20, 40, 60)  # percent of the area that a strong copy may lose
CHANGES = 3  # of a strong copy, besides crop and JPEG


def make_copy(pixels: Pixels, kind: int, row: int, seed: int) -> Pixels:
    """Return a copy of a square image [S S 3], of the same size.

    A strong copy has lost 20, 40 or 60 % of its area, then gets three of {blur, gray, rotation, tones, opaque boxes,
    mirror}, and is saved as JPEG of quality 8 to 40.
    """
    random = np.random.default_rng((seed, row, kind))
    image = Image.fromarray(pixels)
    if kind != STRONG:
        return np.asarray(_crop(image, kind, random))
    image = _crop(image, int(random.choice(CROPS)), random)
    for change in random.permutation(len(_CHANGES))[:CHANGES]:
        image = _CHANGES[change](image, random)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(random.integers(8, 41)))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _crop(image: Image.Image, percent: int, random: np.random.Generator) -> Image.Image:
    """Remove a share of the area at a random place, and grow the rest to the former size."""
    size = image.width
    side = max(1, round(size * (1 - percent / 100) ** 0.5))
    left, top = (int(x) for x in random.integers(0, size - side + 1, 2))
    part = image.crop((left, top, left + side, top + side))
    return part.resize((size, size), Image.Resampling.BICUBIC)


def _blur(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Blur by 1 to 4 pixels of an image of 256."""
    return image.filter(ImageFilter.GaussianBlur(random.uniform(1, 4) * image.width / 256))


def _gray(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(image).enhance(0.0)


def _rotate(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.rotate(random.uniform(-25, 25), Image.Resampling.BICUBIC)


def _tones(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Change gamma, and the gain of every channel."""
    values = (np.asarray(image) / 255) ** random.uniform(0.4, 2.2) * random.uniform(0.6, 1.4, 3)
    return Image.fromarray((255 * values).clip(0, 255).astype(np.uint8))


def _boxes(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cover four places with opaque boxes of 10 to 25 % of the side."""
    image = image.copy()
    for _ in range(4):
        width, height = (round(image.width * x) for x in random.uniform(0.1, 0.25, 2))
        left, top = (int(x) for x in random.integers(0, image.width, 2))
        color = tuple(int(x) for x in random.integers(0, 256, 3))
        image.paste(color, (left, top, left + width, top + height))
    return image


def _mirror(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


_CHANGES = (_blur, _gray, _rotate, _tones, _boxes, _mirror)
