"""Copy detection: find the original of a manipulated test image among other images."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.data.made_copies import STRONG, make_copy
from limbeck.data.store.store import Store
from limbeck.evaluation.data import EvalData, as_store
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Metric, Values, share_column
from limbeck.metrics.copies import CopyWhitening, copy_precision

ORIGINALS, DISTRACTORS, WHITENING = 157, 1000, 2000
CROPS = (40, 50, 60, 70, 80)  # percent of the area that is removed
NAMES = ("copies_strong", "copies_crops", "copies_whitened")


class _Images(NamedTuple):
    database: Store  # originals, then distractors
    strong: Store
    crops: Store
    whitening: Store
    originals: Tensor  # row of the database for every strong copy


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Rank originals and distractors for every copy; the same images at every depth and for every network."""
    if not inputs.data.cfg.copies:
        return {}
    images = _images(inputs.data)
    stores = (images.database, images.strong, images.crops, images.whitening)
    banks = [inputs.model.descriptors(inputs.data, store) for store in stores]
    return {depth: _values([bank[depth] for bank in banks], images.originals) for depth in inputs.depths}


def _values(features: list[Tensor], originals: Tensor) -> Values:
    """Return mean average precisions; those of whitened features where their moments are not all zero."""
    database, strong, crops, others = (values.double() for values in features)
    originals = originals.to(database.device)
    whitening = CopyWhitening.fit(others)
    found = (
        copy_precision(strong, database, originals),
        copy_precision(crops, database, originals.repeat(len(CROPS))),
        copy_precision(whitening(strong), whitening(database), originals),
    )
    return dict(zip(NAMES, (precisions.mean().item() for precisions in found), strict=True))


@lru_cache(maxsize=1)
def _images(data: EvalData) -> _Images:
    """Draw the images with the seed and make the copies, once for all networks of an evaluation."""
    train, test, seed = as_store(data.train), as_store(data.test), data.cfg.seed
    order = _order(len(test), seed)
    count = min(ORIGINALS, len(test) // 2)
    rows = order[:count]
    copies = {kind: _copies(test, rows, kind, seed) for kind in (STRONG, *CROPS)}
    return _Images(
        database=_store(test.images[order[: count + DISTRACTORS]]),
        strong=_store(copies[STRONG]),
        crops=_store(np.concatenate([copies[kind] for kind in CROPS])),
        whitening=_store(train.images[np.sort(_order(len(train), seed)[:WHITENING])]),
        originals=torch.arange(count),
    )


def _order(count: int, seed: int) -> np.ndarray:
    return np.argsort(hash_uniforms(seed, 0, 2, np.arange(count), 1)[:, 0], kind="stable")


def _copies(store: Store, rows: np.ndarray, kind: int, seed: int) -> np.ndarray:
    return np.stack([make_copy(np.asarray(store.images[row]), kind, int(row), seed) for row in rows])


def _store(images: np.ndarray) -> Store:
    return Store.from_arrays(np.ascontiguousarray(images))


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="copies_strong",
            label="copies",
            help="mean average precision of the originals of strongly manipulated test images among up to 1,000 others "
            "(`--copies`)",
            better="higher",
            priority=2,
        ),
        share_column(
            name="copies_crops",
            label="crops",
            help="the same for crops that have lost 40 to 80 % of the area (`--copies`)",
            better="higher",
            priority=2,
        ),
        share_column(
            name="copies_whitened",
            label="copies, whitened",
            help="`copies_strong` of whitened features (`--copies`)",
            better="higher",
            priority=2,
        ),
    ),
    needs=frozenset({"descriptors"}),
    untrained=True,
    compute=compute,
)
