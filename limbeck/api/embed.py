"""Features of images, with the path of each: for search, clusters, or a classifier of your own."""

from collections.abc import Sequence
from os import PathLike
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.core.devices import choose_device
from limbeck.core.logs import ensure_visible
from limbeck.data.sources.open import Source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store, read_paths
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.models.encoder_io import load, load_preprocessing


class Embeddings(NamedTuple):
    """One vector per image."""

    features: NDArray[np.float32]  # [N D]
    paths: list[str]  # [N], relative to a folder that was given; of arrays their number
    labels: NDArray[np.int64]  # [N], -1 where there is none
    label_names: list[str]


def embed(
    images: Source | Store,
    run: str | PathLike[str],
    *,
    depth: int | None = None,
    batch_size: int = 256,
    device: str = "auto",
    allow_bad: float = 0.05,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Embeddings:
    """Return the features of all images that can be read, as the encoder of a run computes them.

    Args:
        images: a folder, files, arrays [N H W 3] of uint8, a store, ...
        run: a run, an encoder or a timm export of Limbeck.
        depth: number of blocks or stages to use; by default all.
        batch_size: images per forward pass.
        device: where to compute: auto, cpu, cuda ...
        allow_bad: fraction of the images that may be unreadable.
        exclude, only: patterns of images that are left out, as in `limbeck.build_store`.

    Raises:
        UserError: there are no images, or nothing to load at `run`.
    """
    ensure_visible()
    encoder, how = load(run, depth), load_preprocessing(run)
    store = _store(images, how.store_size, allow_bad, Selection.by(exclude, only))
    where = choose_device(device)
    filters: Literal["bilinear", "bicubic"] = "bicubic" if how.interpolation == "bicubic" else "bilinear"
    inputs = eval_images(store, how.image_size, how.mean, how.std, where, filters)
    last = encoder.taps[-1]
    rows = np.arange(len(store))
    found = extract(encoder, inputs, rows, taps=[last], device=where, batch_size=batch_size, show="features")
    return Embeddings(found[last].cpu().numpy(), read_paths(store), store.labels, store.label_names)


def _store(images: Source | Store, size: int, allow_bad: float, left_out: Selection) -> Store:
    if isinstance(images, Store):
        return images
    if isinstance(images, np.ndarray):
        return Store.from_arrays(images)
    return open_store(images, None, _size_of(images, size), allow_bad, left_out.exclude, left_out.only)


def _size_of(images: Source, size: int) -> int | None:
    """Return the size to store new images at; None for a store, which has its own."""
    from pathlib import Path

    from limbeck.data.store.layout import is_store

    return None if isinstance(images, str | Path) and is_store(Path(images)) else size
