"""Select the images to label first."""

from os import PathLike
from pathlib import Path
from typing import Any

from limbeck.api.options import with_options
from limbeck.core.errors import UserError
from limbeck.core.files import check_new
from limbeck.core.rank import is_rank0
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.downstream.active.config import CyclesConfig, JointConfig
from limbeck.downstream.active.source import LabelingCycles, select_jointly, work_folder
from limbeck.downstream.active.source import select_in_cycles as _select_in_cycles
from limbeck.downstream.selection.config import TRAINED, SelectConfig, Strategy
from limbeck.downstream.selection.source import Selection, select_images
from limbeck.embeddings.config import EmbedConfig


def select(
    images: Source | Store,
    encoder: str | PathLike[str] | None = None,
    budget: int = 100,
    strategy: Strategy = "typical",
    *,
    labeled: str | PathLike[str] | None = None,
    depth: int | None = None,
    out: str | PathLike[str] | None = None,
    joint: JointConfig | None = None,
    embedding: EmbedConfig | None = None,
    **options: Any,
) -> Selection:
    """Choose the images that are worth labeling first: `limbeck.select("photos", "runs/a", 100).paths`.

    Args:
        images: a folder, files, arrays [N H W 3] of uint8, a store, ...
        encoder: a run, an encoder, an export (timm or ONNX), "timm:NAME", a folder of timm's or Hugging Face's; none
            for the strategy moby.
        budget: images to choose.
        strategy: typical, coverage, k-center, entropy, margin, moby or random (docs/few-labels.md).
        labeled: a CSV file with the columns path and label; labels of the source itself play no part.
        depth: number of blocks or stages to use; by default all.
        out: also write the list to this CSV file, which must be new. The strategy moby needs it: it trains in a folder
            of the same name, and goes on there if it was stopped.
        joint: how the strategy moby trains.
        embedding: how to compute the features.
        **options: further fields of `limbeck.downstream.selection.config.SelectConfig`: `pool`, `seed`,
            `similarity_threshold`.

    Raises:
        UserError: as `limbeck.embed`; the budget is more than there are images, or the strategy is unknown, needs
            labels or has no use for the encoder.
    """
    cfg = _select_config(budget, strategy, options, ("labeled", "depth", "out", "joint", "embedding"))
    if out is not None:
        check_new(Path(out))
    if cfg.strategy == TRAINED:
        if out is None:
            raise UserError(
                f"strategy {strategy} trains in a folder next to its list: name the list, such as out='selected.csv'",
                code="no-out",
            )
        settings, folder = joint or JointConfig(), work_folder(Path(out))
        found = select_jointly(images, encoder, cfg, settings, folder, labeled=labeled, embed=embedding)
    else:
        found = select_images(images, encoder, cfg, labeled=labeled, depth=depth, embed=embedding)
    if out is not None and is_rank0():
        found.write(Path(out))
    return found


def select_in_cycles(
    images: Source | Store,
    out: str | PathLike[str],
    encoder: str | PathLike[str] | None = None,
    budget: int = 100,
    strategy: Strategy = "typical",
    *,
    oracle: str | PathLike[str],
    cycles: int = 5,
    held_out: float = 0.2,
    labeled: str | PathLike[str] | None = None,
    depth: int | None = None,
    joint: JointConfig | None = None,
    embedding: EmbedConfig | None = None,
    **options: Any,
) -> LabelingCycles:
    """Simulate labeling: learn, measure, choose and label `cycles` times, where all labels are known to an oracle.

    A call that was stopped goes on when it is repeated.

    Args:
        images, encoder, budget, strategy, labeled, depth, joint, embedding, **options: as in `select`.
        out: new CSV file for the chosen images with their labels; the journal is in a folder of the same name.
        oracle: a CSV file with path and label of every image, or `images` itself where they have labels.
        cycles: how often to learn; in between, `budget` images are labeled.
        held_out: share of the images on which accuracy is measured, which are never chosen.

    Raises:
        UserError: as `select`; the oracle misses images or has one class, or the budget of all cycles is more than
            there are images.
    """
    known = ("labeled", "depth", "oracle", "cycles", "held_out", "joint", "embedding")
    cfg = _select_config(budget, strategy, options, known)
    check_new(Path(out))
    found = _select_in_cycles(
        images,
        encoder,
        cfg,
        CyclesConfig(oracle=str(oracle), cycles=cycles, held_out=held_out),
        joint or JointConfig(),
        work_folder(Path(out)),
        labeled=labeled,
        depth=depth,
        embed=embedding,
    )
    if is_rank0():
        found.write(Path(out))
    return found


def _select_config(budget: int, strategy: str, options: dict[str, Any], known: tuple[str, ...]) -> SelectConfig:
    return with_options(SelectConfig(), {"budget": budget, "strategy": strategy, **options}, known=known)
