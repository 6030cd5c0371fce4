"""Find identical images in one store or in several."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from limbeck.core.progress import progress
from limbeck.data.store.store import Store

BLOCK = 256  # images between two moves of the progress bar


def identities(*stores: Store) -> list[NDArray[np.int64]]:
    """Return a number for every image of every store, [N] each: the same for images with the same stored pixels."""
    numbers: dict[bytes, int] = {}
    return [_identities(store, numbers) for store in stores]


def _identities(store: Store, numbers: dict[bytes, int]) -> NDArray[np.int64]:
    found = np.empty(len(store), np.int64)
    starts = range(0, len(store), BLOCK)
    for start in progress(starts, "identical images", unit="blocks"):
        for row, pixels in enumerate(np.asarray(store.images[start : start + BLOCK]), start):
            digest = blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
            found[row] = numbers.setdefault(digest, len(numbers))
    return found
