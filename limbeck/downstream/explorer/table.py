"""The map of millions of images as a parquet file, for a viewer that reads one: nothing grows with its thumbnails."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import from_numpy

from limbeck.core.disk import check_writable, make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.progress import progress
from limbeck.core.rank import is_rank0
from limbeck.core.text import printable
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.data.thumbnail import jpeg
from limbeck.downstream.anomalies.distances import outlier_scores
from limbeck.downstream.explorer.config import ExploreConfig
from limbeck.downstream.explorer.groups import find_clusters, vote
from limbeck.downstream.explorer.layout import COMPONENTS, Layout, lay_out_components
from limbeck.downstream.explorer.rows import check_count, cluster_count, neighbor_graph, shown_count, shown_rows
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_features
from limbeck.embeddings.source import Embedded, embed_source, open_images
from limbeck.neighbors.graph import Graph

logger = logging.getLogger(__name__)

VERSION, KEY = b"1", b"limbeck-map"
"""Metadata of the file, by which Limbeck recognizes it."""
SIDE = 96  # pixels of the longer side of a thumbnail, or as many as a store has
SHOWN = 10  # neighbors of an image
ROWS = 4096  # of a block
FITTED = 100_000  # images that principal components are fitted to
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NEAREST = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
SCHEMA = {"id": pa.int64(), "path": pa.string(), "x": pa.float32(), "y": pa.float32(), "image": IMAGE}
FOUND = {"cluster": pa.int32(), "outlier": pa.float32(), "neighbors": NEAREST}
LABELS = {"label": pa.string(), "predicted": pa.string()}


@dataclass(frozen=True, kw_only=True)
class MapTable:
    """A file that was written, and what is in it."""

    path: Path
    images: int
    bytes: int
    layout: str
    """Algorithm that computed the map."""
    depth: int
    clusters: int


class _Map(NamedTuple):
    layout: Layout
    graph: Graph
    clusters: NDArray[np.int64]
    outliers: NDArray[np.float32]
    predicted: NDArray[np.int64] | None  # None without labels


def write_table(
    source: Source | Store,
    encoder: str | PathLike[str] | FrozenEncoder,
    out: str | PathLike[str] = "explore.parquet",
    *,
    cfg: ExploreConfig | None = None,
    embed: EmbedConfig | None = None,
) -> MapTable | None:
    """Write one row per image: id, path, x, y, image (bytes and path), label, cluster, outlier, predicted, neighbors.

    Neighbors are a struct of ids (numbers of rows) and cosine distances at the last depth; label and predicted (what
    the neighbors vote for) are left out where no image has a label. Several processes share the embeddings; the first
    alone writes, and the others return None.

    Args:
        source: what `embed_source` takes.
        encoder: what `load_features` takes.
        out: the file, .parquet; one of Limbeck's is replaced.
        cfg: the map, the clusters, the sample and the seed.
        embed: how the embeddings are computed.

    Raises:
        UserError: as `embed_source`; there are fewer than two images; or `out` is another file or has another ending.
    """
    cfg, embed, path = cfg or ExploreConfig(), embed or EmbedConfig(), Path(out)
    _check_out(path)
    network = encoder if isinstance(encoder, FrozenEncoder) else load_features(encoder, embed.precision)
    store = open_images(source, network, embed)
    check_count(shown_count(len(store), cfg))
    found = embed_source(store, network, depths=[network.last], cfg=embed)
    if not is_rank0():
        return None
    rows = shown_rows(len(store), cfg)
    shown = _map(found, rows, cfg)
    make_folder(path.absolute().parent)
    _write(found, rows, shown, path)
    return MapTable(
        path=path,
        images=len(rows),
        bytes=path.stat().st_size,
        layout=shown.layout.name,
        depth=network.last,
        clusters=len(np.unique(shown.clusters)),
    )


def _check_out(path: Path) -> None:
    """Raise UserError unless `path` is free, or a file of this kind."""
    if path.suffix != ".parquet":
        raise UserError(f"'{path}' must end in .parquet: a viewer reads a table", code="unknown-format")
    check_writable(path.absolute().parent)
    if not path.exists():
        return
    with suppress(OSError, ValueError, pa.ArrowException):
        if path.is_file() and (pq.read_schema(path).metadata or {}).get(KEY):
            return
    raise UserError(f"'{path}' exists and is no map of Limbeck's: choose another name with --out", code="not-ours")


def _map(found: Embedded, rows: NDArray[np.int64], cfg: ExploreConfig) -> _Map:
    labels, names = found.labels[rows], found.store.label_names
    graph = neighbor_graph(found, found.encoder.last, rows)
    reduced = _components(found, rows, cfg.seed)
    layout = lay_out_components(reduced, cfg.layout, cfg.seed)
    logger.info("map: %s", layout.name)
    clusters = find_clusters(reduced, labels, cluster_count(len(rows), len(names), cfg), cfg.seed)
    predicted = vote(graph, labels) if (labels >= 0).any() else None
    return _Map(layout, graph, clusters.of_image, outlier_scores(graph.cosines), predicted)


def _components(found: Embedded, rows: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Return principal components of the unit vectors, [N d], fitted to some of them and computed block by block."""
    from sklearn.decomposition import PCA

    vectors = found.features[found.encoder.last]

    def unit(part: NDArray[np.int64]) -> NDArray[np.float32]:
        return F.normalize(from_numpy(np.array(vectors[part]))).numpy()

    some = unit(np.sort(np.random.default_rng(seed).permutation(rows)[:FITTED]))
    fitted = PCA(min(COMPONENTS, *some.shape), svd_solver="randomized", random_state=seed).fit(some)
    reduced = np.concatenate([fitted.transform(unit(rows[block])).astype(np.float32) for block in _blocks(len(rows))])
    return np.pad(reduced, ((0, 0), (0, max(0, 2 - reduced.shape[1]))))


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]


def _write(found: Embedded, rows: NDArray[np.int64], shown: _Map, out: Path) -> None:
    fields = SCHEMA | (LABELS if shown.predicted is not None else {}) | FOUND
    schema = pa.schema(list(fields.items()), metadata={KEY: VERSION})
    with atomic_write(out) as unfinished, pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        for block in progress(_blocks(len(rows)), "table", unit="images", size=lambda part: part.stop - part.start):
            columns = _columns(found, rows[block], block, shown)
            arrays = [pa.array(columns[field.name], field.type) for field in schema]
            writer.write_batch(pa.record_batch(arrays, schema))


def _columns(found: Embedded, rows: NDArray[np.int64], block: slice, shown: _Map) -> Mapping[str, Any]:
    """Return the values of a block of the table, whose rows are `block`, by column."""
    paths = [printable(found.paths[row]) for row in rows]
    names = [*found.store.label_names, None]  # the last one stands for -1
    labels = {} if shown.predicted is None else {"label": found.labels[rows], "predicted": shown.predicted[block]}
    images = zip(_images(found.store, rows), paths, strict=True)
    return {
        "id": range(block.start, block.stop),
        "path": paths,
        "x": shown.layout.positions[block, 0],
        "y": shown.layout.positions[block, 1],
        "image": [{"bytes": image, "path": path} for image, path in images],
        "cluster": shown.clusters[block],
        "outlier": shown.outliers[block],
        "neighbors": _neighbors(shown.graph, block),
        **{name: [names[label] for label in values] for name, values in labels.items()},
    }


def _images(store: Store, rows: NDArray[np.int64]) -> Iterator[bytes]:
    side = min(SIDE, store.size)
    for row in rows:
        yield jpeg(np.asarray(store.images[row]), int(store.widths[row]), int(store.heights[row]), side)


def _neighbors(graph: Graph, block: slice) -> list[dict[str, list[Any]]]:
    pairs = zip(graph.neighbors[block, :SHOWN], graph.cosines[block, :SHOWN], strict=True)
    return [
        {"ids": near[near >= 0].tolist(), "distances": (1 - cosines[near >= 0]).tolist()} for near, cosines in pairs
    ]
