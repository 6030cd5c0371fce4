"""Embeddings of images or series, with the path of each: for search, clusters, or a classifier of your own."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from limbeck.api.options import with_options
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import load_encoder
from limbeck.embeddings.files import check_out, write_embeddings, write_rows
from limbeck.embeddings.source import embed_source
from limbeck.series.recognize import is_series

if TYPE_CHECKING:
    from limbeck.series.data import SeriesData


class Embeddings(NamedTuple):
    """One vector per image or series."""

    features: NDArray[np.float32]  # [N D], memory-mapped where the images are in a store
    paths: list[str]  # [N], relative to a folder that was given; of arrays, and of series in one file, their number
    labels: NDArray[np.int64]  # [N], -1 where there is none
    label_names: list[str]
    maps: NDArray[np.float32] | None  # [N C H W], if requested
    digest: str  # of the encoder: vectors of another one are not comparable
    depth: int


def embed(
    images: "Source | Store | SeriesData",
    encoder: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    depth: int | None = None,
    maps: bool = False,
    **options: Any,
) -> Embeddings:
    """Return the embeddings of all images that can be read, the same numbers as an evaluation computes.

    They are computed once and read from the cache from then on; memory does not grow with the number of images. Series
    are embedded, too, by an encoder of series; they are read into memory, and their vectors are not cached.

    Args:
        images: a folder, files, arrays [N H W 3] of uint8, a store, ...; or what `limbeck.series.open_series` takes.
        encoder: a run, an encoder, an export (timm or ONNX), "timm:NAME", a folder of timm's or Hugging Face's.
        out: also write them to this file, which ends in .parquet, .npy or .csv.
        depth: number of blocks or stages to use; by default all.
        maps: also return the feature maps.
        **options: fields of `limbeck.embeddings.config.EmbedConfig`: `batch_size`, `precision`, `device`, `devices`,
            `allow_bad`, `exclude`, `only`.

    Raises:
        UserError: there are no images, nothing to load at `encoder`, no such depth or option; or `out` is not ours.
    """
    cfg = with_options(EmbedConfig(), options, known=("depth", "maps", "out"))
    if out is not None:
        check_out(Path(out), maps=maps)
    if is_series(images):
        return _embed_series(images, encoder, out, depth, maps, cfg)
    network = load_encoder(encoder, cfg.precision)
    depth = network.last if depth is None else depth
    found = embed_source(cast("Source | Store", images), network, depths=[depth], maps=maps, cfg=cfg)
    if out is not None:
        write_embeddings(found, depth, Path(out))
    return Embeddings(
        features=found.features[depth],
        paths=found.paths,
        labels=found.labels,
        label_names=found.store.label_names,
        maps=found.maps.get(depth),
        digest=network.digest,
        depth=depth,
    )


def _embed_series(
    source: Any,
    encoder: str | PathLike[str],
    out: str | PathLike[str] | None,
    depth: int | None,
    maps: bool,
    cfg: EmbedConfig,
) -> Embeddings:
    from limbeck.series.embedding import embed_series
    from limbeck.series.sources import open_series

    found = embed_series(open_series(source), encoder, depth, cfg, maps=maps)
    if out is not None:
        write_rows(found, Path(out))
    return Embeddings(
        features=found.vectors,
        paths=list(found.paths),
        labels=found.labels,
        label_names=list(found.about.label_names),
        maps=None,
        digest=found.about.digest,
        depth=found.about.depth,
    )
