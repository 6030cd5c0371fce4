"""Images that are unlike the others."""

from os import PathLike
from pathlib import Path
from typing import Any

from limbeck.api.options import with_options
from limbeck.core.rank import is_rank0
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.downstream.anomalies.config import Compare, OutlierConfig
from limbeck.downstream.anomalies.files import check_out, write_outliers
from limbeck.downstream.anomalies.source import Outliers, find_outliers
from limbeck.embeddings.config import EmbedConfig
from limbeck.exports.detector import check_detector, export_detector


def outliers(
    images: Source | Store,
    encoder: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    compare: Compare = "images",
    normal: Source | Store | None = None,
    depth: int | None = None,
    detector: str | PathLike[str] | None = None,
    embedding: EmbedConfig | None = None,
    **options: Any,
) -> Outliers:
    """Score how unusual images are: `limbeck.outliers("photos", "runs/a").scores`.

    Args:
        images: a folder, files, arrays [N H W 3] of uint8, a store, ...
        encoder: a run, an encoder, an export (timm; without patches also ONNX), "timm:NAME", a folder.
        out: also write a page (.html) or a table (.csv), which must be new.
        compare: images, or patches for a score per place and heat maps (docs/outliers.md).
        normal: images that are known to be normal; by default each image is compared with the others.
        depth: block or stage; by default the last one, of patches the one at two thirds of the network.
        detector: also write network and memory as one ONNX file to this new folder (of patches).
        embedding: how to compute the features.
        **options: further fields of `limbeck.downstream.anomalies.config.OutlierConfig`: `k`, `memory`, `seed`.

    Raises:
        UserError: as `limbeck.embed`; there are too few images to compare with, an option has no effect, or `out`
            exists.
    """
    known = ("normal", "depth", "detector", "embedding", "out")
    cfg = with_options(OutlierConfig(), {"compare": compare, **options}, known=known)
    if detector is not None:
        check_detector(Path(detector), compare)
    if out is not None:
        check_out(Path(out))
    found = find_outliers(images, encoder, cfg, normal=normal, depth=depth, embed=embedding)
    if out is not None and is_rank0():
        write_outliers(found, Path(out))
    if detector is not None and is_rank0():
        export_detector(found, Path(detector))
    return found
