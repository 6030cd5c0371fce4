"""Which images to label first."""

from os import PathLike
from pathlib import Path
from typing import Any

from limbeck.api.options import with_options
from limbeck.core.rank import is_rank0
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig
from limbeck.selection.config import SelectConfig, Strategy
from limbeck.selection.source import Selection, check_list, select_images


def select(
    images: Source | Store,
    encoder: str | PathLike[str],
    budget: int = 100,
    strategy: Strategy = "typical",
    *,
    labeled: str | PathLike[str] | None = None,
    depth: int | None = None,
    out: str | PathLike[str] | None = None,
    embedding: EmbedConfig | None = None,
    **options: Any,
) -> Selection:
    """Choose the images that are worth labeling first: `limbeck.select("photos", "runs/a", 100).paths`.

    Args:
        images: a folder, files, arrays [N H W 3] of uint8, a store, ...
        encoder: a run, an encoder, an export (timm or ONNX), "timm:NAME", a folder of timm's or Hugging Face's.
        budget: images to choose.
        strategy: typical, coverage, k-center, entropy, margin or random (docs/few-labels.md).
        labeled: a CSV file with the columns path and label; labels of the source itself play no part.
        depth: number of blocks or stages to use; by default all.
        out: also write the list to this CSV file, which must be new.
        embedding: how to compute the features.
        **options: further fields of `limbeck.selection.config.SelectConfig`: `pool`, `seed`, `similarity_threshold`.

    Raises:
        UserError: as `limbeck.embed`; the budget is more than there are images, or the strategy is unknown or needs
            labels.
    """
    given = {"budget": budget, "strategy": strategy, **options}
    cfg = with_options(SelectConfig(), given, known=("labeled", "depth", "out", "embedding"))
    if out is not None:
        check_list(Path(out))
    found = select_images(images, encoder, cfg, labeled=labeled, depth=depth, embed=embedding)
    if out is not None and is_rank0():
        found.write(Path(out))
    return found
