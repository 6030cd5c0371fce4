"""Copy detection in the layout of Copydays: find the original of a copy among originals and test images.

The protocol of facebookresearch/dino 7c446df `eval_copy_detection.py`; test images are the distractors, training images
fit the whitening.
"""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from limbeck.data.copydays import STRONG, Copydays
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store, read_paths
from limbeck.evaluation.data import as_store
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Metric, Values, share_column
from limbeck.evaluation.models import Bank
from limbeck.metrics.copies import CopyWhitening, copy_precision

DISTRACTORS, WHITENING = 10_000, 20_000


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Rank originals and distractors for every copy, at every depth."""
    data, found = inputs.data, inputs.data.copydays
    if found is None:
        return {}
    store = open_store(found.folder, store_size=inputs.model.image_size, allow_bad=0)
    rows = {path: row for row, path in enumerate(read_paths(store))}
    images = inputs.model.descriptors(data, store)
    others, fit = (
        _some(inputs, as_store(s), count) for s, count in ((data.test, DISTRACTORS), (data.train, WHITENING))
    )
    return {depth: _values(found, rows, images[depth], others[depth], fit[depth]) for depth in inputs.depths}


def _some(inputs: MetricInputs, store: Store, count: int) -> Bank:
    """Return descriptors of images of a store, all or so many, evenly spread."""
    if len(store) > count:
        rows = np.linspace(0, len(store) - 1, count).round().astype(np.int64)
        store = Store.from_arrays(np.ascontiguousarray(store.images[rows]))
    return inputs.model.descriptors(inputs.data, store)


def _values(found: Copydays, rows: dict[str, int], images: Tensor, others: Tensor, fit: Tensor) -> Values:
    """Return the mean average precision of the strong copies, plain and whitened, and the means over other blocks."""
    images = images.double()
    database = torch.cat([images[[rows[path] for path in found.originals]], others.double()])
    whitening, precisions = CopyWhitening.fit(fit.double()), defaultdict[str, list[float]](list)
    for block in found.blocks:
        copies = images[[rows[path] for path in block.paths]]
        originals = torch.tensor(block.originals, device=copies.device)
        kind = block.name.partition("/")[0]
        precisions[kind].append(copy_precision(copies, database, originals).mean().item())
        if block.name == STRONG:
            whitened = copy_precision(whitening(copies), whitening(database), originals).mean().item()
    means = {NAMES[kind]: float(np.mean(values)) for kind, values in precisions.items()}
    return {**means, "copydays_whitened": whitened}


NAMES = {STRONG: "copydays_strong", "crops": "copydays_crops", "jpegqual": "copydays_jpeg"}


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="copydays_strong",
            label="Copydays",
            help="mean average precision of the originals of strong copies among originals and test images "
            "(`--copydays`)",
            better="higher",
            priority=2,
        ),
        share_column(
            name="copydays_whitened",
            label="Copydays, whitened",
            help="the same with whitened features (`--copydays`)",
            better="higher",
            priority=2,
        ),
        share_column(
            name="copydays_crops",
            label="Copydays, crops",
            help="mean over the blocks of crops (`--copydays`)",
            better="higher",
            priority=3,
        ),
        share_column(
            name="copydays_jpeg",
            label="Copydays, JPEG",
            help="mean over the blocks of JPEG qualities (`--copydays`)",
            better="higher",
            priority=3,
        ),
    ),
    needs=frozenset({"descriptors"}),
    untrained=True,
    compute=compute,
)
