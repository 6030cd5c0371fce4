"""Put the images of a source into an index, and search it with the images of another."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from limbeck.core.errors import UserError
from limbeck.core.locks import wait_for_lock
from limbeck.core.rank import is_rank0
from limbeck.core.text import plural
from limbeck.data.decode import UndecodableError, decode
from limbeck.data.sources.names import is_image
from limbeck.data.sources.open import Source
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store, read_paths
from limbeck.downstream.image_index.index import (
    About,
    Hit,
    ImageIndex,
    Rows,
    SearchKind,
    check_place,
    is_index,
    write_index,
)
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_features
from limbeck.embeddings.source import Embedded, embed_source
from limbeck.models.hub import known_only

logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """The images nearest to one query, best first."""

    query: str
    hits: list[Hit]


def index_images(
    source: Source | Store,
    folder: str | PathLike[str],
    encoder: str | PathLike[str] | None = None,
    *,
    depth: int | None = None,
    search: SearchKind = "auto",
    embed: EmbedConfig | None = None,
) -> About:
    """Make an index of the images of a source, or add them to an index; images that are in it already stay as they are.

    Args:
        source: a folder, files, a store, ...
        folder: of the index.
        encoder: what `load_features` takes; of an index that exists by default the one that made it.
        depth: number of blocks or stages; by default all, or that of the index.
        search: exact, ivf (FAISS, approximate), or auto by the number of images.
        embed: how to compute the features.

    Raises:
        UserError: a new index has no encoder, the index is of another encoder or depth, or the folder is not ours.
    """
    place = Path(folder)
    check_place(place)
    old = ImageIndex(place) if is_index(place) else None
    if old is None and encoder is None:
        raise UserError(f"'{place}' is a new index: name the network with --with", code="encoder-not-named")
    network = _encoder(old, encoder, embed)
    at = depth or (old.about.depth if old else network.last)
    _check_depth(old, at)
    found = embed_source(source, network, depths=[at], cfg=embed)
    about = old.about if old else _about(found, at)
    if not is_rank0():
        return about
    with wait_for_lock(place):
        old = ImageIndex(place) if is_index(place) else None  # it may have grown since
        return write_index(place, old, _new_rows(old, found, at, source), about, search)


def _about(found: Embedded, depth: int) -> About:
    return About(
        encoder=found.encoder.name,
        digest=found.encoder.digest,
        depth=depth,
        dim=found.encoder.dims[depth],
        store_size=found.store.size,
        images=0,
        search="exact",
        recall=1.0,
    )


def search_images(
    folder: str | PathLike[str],
    queries: Source | Store,
    k: int = 10,
    *,
    encoder: str | PathLike[str] | None = None,
    embed: EmbedConfig | None = None,
) -> list[Found]:
    """Return the `k` images of an index that are nearest to each image of `queries`.

    Args:
        folder: of the index.
        queries: an image file, a folder, ...
        k: images per query.
        encoder: the network that made the index, if it is no longer where it was; or an export aligned with it.
        embed: how to compute the features.

    Raises:
        UserError: there is no index, another encoder is given, or a query cannot be read.
    """
    if k < 1:
        raise UserError(f"k is {k}: it must be at least 1", code="value-out-of-range")
    index = ImageIndex(Path(folder))
    if k > len(index.paths):
        logger.warning("k is %s and the index has %s: all are found", f"{k:,}", plural(len(index.paths), "image"))
    network = _encoder(index, encoder, embed, queries=True)
    store, names = _queries(queries, index.about.store_size)
    found = embed_source(store, network, depths=[index.about.depth], cfg=embed)
    hits = index.search(found.features[index.about.depth], k)
    return [Found(*pair) for pair in zip(names, hits, strict=True)]


def _queries(source: Source | Store, size: int) -> tuple[Store, list[str]]:
    """Return the images of a source in memory, and their paths; nothing of them goes to the cache."""
    if isinstance(source, Store):
        return replace(source, path=None), read_paths(source)
    if isinstance(source, str | PathLike) and Path(source).is_file() and is_image(Path(source).name):
        try:
            return Store.from_arrays(decode(Path(source), size).pixels[None]), [fspath(source)]
        except UndecodableError as error:
            raise UserError(f"'{source}' cannot be read as an image: {error}", code="not-an-image") from error
    with TemporaryDirectory(prefix="limbeck-") as place:
        store = build_store(source, Path(place) / "queries", store_size=size)
        return replace(store, path=None, images=np.array(store.images[:])), read_paths(store)


def _encoder(
    index: ImageIndex | None, named: str | PathLike[str] | None, embed: EmbedConfig | None, *, queries: bool = False
) -> FrozenEncoder:
    """Return the encoder, which for an index must be the one that made it; for queries also one aligned with it."""
    name = named if named is not None else index.about.encoder if index else ""
    try:
        with nullcontext() if named is not None else known_only():
            network = load_features(name, (embed or EmbedConfig()).precision)
    except UserError as error:
        if named is not None or index is None:
            raise
        raise UserError(
            f"the index '{index.folder}' was made by '{name}', which cannot be loaded ({error}): give it, or its new "
            "place, with --with",
            code=error.code,
        ) from error
    if index and queries and network.aligned_to == index.about.digest:
        network.check_depths([index.about.depth])
    elif index and network.digest != index.about.digest:
        raise UserError(
            f"the index '{index.folder}' was made by '{index.about.encoder}' ({index.about.digest[:12]}), and "
            f"'{network.name}' has other weights or another input size ({network.digest[:12]}): give that network, or "
            "build another index",
            code="other-encoder",
        )
    return network


def _check_depth(index: ImageIndex | None, depth: int) -> None:
    if index and depth != index.about.depth:
        raise UserError(
            f"the index '{index.folder}' holds vectors of depth {index.about.depth}, not {depth}: leave --depth out, "
            "or build another index",
            code="other-depth",
        )


def _new_rows(old: ImageIndex | None, found: Embedded, depth: int, source: Source | Store) -> Rows:
    """Return the images that are not in the index yet."""
    known = set(old.paths) if old else set[str]()
    paths, names = _full_paths(found, source), found.store.label_names
    rows = [row for row, path in enumerate(paths) if path not in known]
    if len(rows) < len(paths):
        logger.info("%s in the index already", plural(len(paths) - len(rows), "image"))
    labels = [names[label] if label >= 0 else None for label in found.labels[rows].tolist()]
    return Rows(found.features[depth][rows], [paths[row] for row in rows], labels)


def _full_paths(found: Embedded, source: Source | Store) -> list[str]:
    """Return the path of every image, with that of its folder in front."""
    if isinstance(source, str | PathLike) and Path(source).is_dir() and found.store.path != Path(source):
        return [fspath(Path(source) / path) for path in found.paths]
    return found.paths
