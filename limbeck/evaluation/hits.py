"""The test images that a model classifies correctly, and how surely two accuracies on the same images differ."""

import base64
import binascii

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from limbeck.core.errors import UserError

Hits = dict[str, str]
"""Column of an accuracy -> `pack_hits` of the test images."""


def pack_hits(right: Bool[Tensor, " M"]) -> str:
    """Return a bit for each test image, the first one highest, set where it was classified correctly, in base64."""
    return base64.b64encode(np.packbits(right.cpu().numpy()).tobytes()).decode("ascii")


def unpack_hits(packed: str, images: int) -> Bool[np.ndarray, " M"]:
    """Return what `pack_hits` was given.

    Raises:
        UserError: these are not the bits of so many images.
    """
    try:
        found = np.frombuffer(base64.b64decode(packed, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        found = np.empty(0, np.uint8)
    if len(found) != -(-images // 8):
        raise UserError(f"'{packed[:20]}' has no bit for each of {images} test images", code="not-a-result")
    return np.unpackbits(found, count=images).astype(bool)


def paired_error(first: Bool[np.ndarray, " M"], second: Bool[np.ndarray, " M"]) -> float:
    """Return the standard error of the difference of two accuracies on the same M images.

    With b images that the first alone classifies correctly, and c that the second alone does, it is
    sqrt((b + c - (b - c)^2 / M)) / M: images that both get right or wrong tell nothing (McNemar 1947).
    """
    difference = first.astype(np.float64) - second
    return float(difference.std() / len(difference) ** 0.5)
