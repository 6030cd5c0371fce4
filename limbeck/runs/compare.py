"""Compare runs, or any networks, without labels: a table of measures, and who is ahead in one of them."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from limbeck.core.config import to_json
from limbeck.core.devices import choose_device
from limbeck.core.errors import UserError
from limbeck.core.logs import ensure_visible
from limbeck.data.sources.open import Source
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.embeddings.encoders import load_features
from limbeck.evaluation.label_free import IMAGES, MEASURES, Block, measure
from limbeck.metrics.fidelity import check_images
from limbeck.runs.config import read_config
from limbeck.runs.evaluation import is_run
from limbeck.teachers.config import PATCH_FILTERS

logger = logging.getLogger(__name__)

USUAL_ORDER, FOR_STUDENTS = "filter_agreement", "view_retrieval"
"""The measure that orders networks, by what agrees with labels in BENCHMARKS.md; and the one where a network is a
student of patch filters, which agrees with them by construction."""
NAMES = {USUAL_ORDER: "neighbors that patch filters have", FOR_STUDENTS: "views that find each other"}
LABELS_AGREED = {
    USUAL_ORDER: {"one method": (52, 52), "two methods": (111, 111)},
    FOR_STUDENTS: {"one method": (52, 52), "two methods": (112, 112)},
}
"""Pairs of checkpoints that differed by two standard errors in a measure and in k-NN accuracy: those that labels order
in the same way, and all of them (BENCHMARKS.md, digits)."""
ERRORS = 2.0
"""Paired standard errors beyond which two networks differ."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One network: its measures on the images of a comparison."""

    name: str
    method: str
    """Of a run; empty for other networks."""
    values: dict[str, float]
    ahead: float | None = None
    """Lead over the next network in the measure that orders them; None for the last one."""
    stderr: float | None = None
    """Standard error of `ahead`, paired over images."""


@dataclass(frozen=True, kw_only=True)
class ComparisonWithoutLabels:
    """Networks, best first, and what their order is worth."""

    images: int
    order: str
    networks: tuple[Compared, ...]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        found = to_json(self)
        assert isinstance(found, dict)
        return found


def compare_without_labels(
    networks: Sequence[str],
    images: Source | None = None,
    *,
    count: int = IMAGES,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> ComparisonWithoutLabels:
    """Measure networks on the same images and views, without their labels, and order them.

    Args:
        networks: two or more runs, encoders, exports, folders or names of models, as `load_features` takes them.
        images: images that none of them was trained on; None: those of the first run.
        count: images to draw; each is seen as it is and in eight views.
        device: where to compute.
        seed: of the images and views.
        progress: show bars.

    Raises:
        UserError: fewer than two networks or a dozen images, no run whose images could be taken, or a network that
            cannot be loaded.
    """
    ensure_visible()
    if len({*networks}) < 2:
        raise UserError("a comparison needs two different networks, such as runs/a runs/b", code="too-few-networks")
    encoders = [load_features(name) for name in networks]
    store = open_store(images) if images is not None else _images_of(networks)
    check_images(min(len(store), count))
    show = "patch filters" if progress else ""
    block = Block.of(store, count, choose_device(device), seed, show)
    found = [measure(encoder, block, f"views of {encoder.label}" if progress else "") for encoder in encoders]
    order = FOR_STUDENTS if any(map(_follows_filters, networks)) else USUAL_ORDER
    ordered = sorted(zip(networks, found, strict=True), key=lambda pair: -pair[1][order].mean().item())
    rows = [_row(name, values) for name, values in ordered]
    ahead = [
        _with_lead(row, values[order] - following[order])
        for row, ((_, values), (_, following)) in zip(rows, pairwise(ordered), strict=False)
    ]
    return ComparisonWithoutLabels(
        images=len(block.rows), order=order, networks=(*ahead, rows[-1]), verdict=verdict(ahead[0], rows[1], order)
    )


def verdict(first: Compared, second: Compared, order: str) -> str:
    """Return a sentence about the two best networks by a measure: whether they differ, how often labels agree then."""
    assert first.ahead is not None, "only the last network has none to be ahead of"
    assert first.stderr is not None, "as above"
    lead = f"{100 * first.ahead:+.1f} ± {100 * first.stderr:.1f} points of {NAMES[order]}"
    if first.ahead <= ERRORS * first.stderr:
        return f"'{first.name}' and '{second.name}' cannot be told apart without labels ({lead})"
    kind = "one method" if first.method == second.method != "" else "two methods"
    agreed, pairs = LABELS_AGREED[order][kind]
    return (
        f"'{first.name}' is probably better than '{second.name}' ({lead}): labels agreed in {agreed} of {pairs} pairs "
        f"of checkpoints of {kind} that differed clearly"
    )


def _row(name: str, values: dict[str, Tensor]) -> Compared:
    return Compared(
        name=name,
        method=read_config(Path(name)).method.name if is_run(name) else "",
        values={key: values[key].mean().item() for key in MEASURES},
    )


def _follows_filters(name: str) -> bool:
    """Return whether a network is a run that was distilled from patch filters."""
    teacher = read_config(Path(name)).teacher if is_run(name) else None
    return teacher is not None and PATCH_FILTERS in teacher.names


def _with_lead(row: Compared, difference: Float[Tensor, " N"]) -> Compared:
    """Return a row with the mean and the standard error of its paired difference to the next network."""
    stderr = difference.std().item() / math.sqrt(len(difference))
    return replace(row, ahead=difference.mean().item(), stderr=stderr)


def _images_of(networks: Sequence[str]) -> Store:
    """Return the store of the first run, and warn that it was trained on."""
    run = next((name for name in networks if is_run(name)), None)
    store = read_config(Path(run)).store if run else ""
    if not store:
        raise UserError(
            "no images are named, and none of the networks is a run with a store: add --images FOLDER", code="no-images"
        )
    logger.warning("measuring on '%s', which '%s' was trained on: other images (--images) are fairer", store, run)
    return Store.open(store)
