"""Fit arrays to the images of a store once, and read them from the cache from then on."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.locks import wait_for_lock
from limbeck.data.fingerprint import fingerprint
from limbeck.data.store.open import cache_folder

logger = logging.getLogger(__name__)

T = TypeVar("T")


def fitted_once(
    name: str,
    identity: Sequence[str],
    cache: str | Path | None,
    fit: Callable[[], dict[str, Tensor]],
    restore: Callable[[dict[str, Tensor]], T],
) -> T:
    """Return `restore(fit())`, with the tensors from the cache if they have been fitted before.

    Args:
        name: what it is, in the name of the file and in messages.
        identity: everything that the tensors follow from.
        cache: folder of the cache; None: that of the stores. Where it cannot be written nothing is cached.
        fit: compute the tensors.
        restore: make the result from them; raises KeyError or RuntimeError if they are not what it needs.
    """
    try:
        path = cache_folder(cache) / f"{name}-{fingerprint(list(identity))[:16]}.safetensors"
        with wait_for_lock(path):
            if (found := _read(path, restore)) is not None:
                return found
            tensors = fit()
            with atomic_write(path) as unfinished:
                unfinished.write_bytes(save(tensors))
            return restore(tensors)
    except UserError as error:
        logger.warning("%s: not cached, %s", name, error)
        return restore(fit())


def _read(path: Path, restore: Callable[[dict[str, Tensor]], T]) -> T | None:
    if not path.is_file():
        return None
    try:
        return restore(load_file(path))
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        logger.warning("'%s' is damaged (%s) and is made again", path, error)
        return None
