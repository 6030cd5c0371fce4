"""Early exit by confidence: what the network costs where sure images leave it early."""

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals, share_column, significant
from limbeck.metrics.early_exit import cheapest_threshold, exit_by_confidence, measure_exits

TOLERANCE = 0.01  # of accuracy that early exits may lose, on the images that choose the threshold

NAMES = ("exit_accuracy", "exit_gflops", "exit_share", "exit_threshold")


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Choose the threshold on one half of the test images, and measure on the other; needs the logistic probe."""
    data = inputs.data
    if data.linear_probe != "logistic" or len(inputs.depths) < 2:
        return {}
    assert data.labels is not None
    confidences, predicted = inputs.confidences
    labels, costs = data.labels.test.to(predicted.device), inputs.operations
    chooses = torch.from_numpy(hash_uniforms(data.cfg.seed, 0, 1, np.arange(len(labels)), 1)[:, 0] < 0.5)
    chooses = chooses.to(predicted.device)
    found: dict[int, Values] = {}
    for count, depth in enumerate(inputs.depths, start=1):
        gflops = torch.tensor([costs[d] / 1e9 for d in inputs.depths[:count]], device=predicted.device)
        found[depth] = _measure(confidences[:count], predicted[:count], labels, chooses, gflops)
    return found


def _measure(confidences: Tensor, predicted: Tensor, labels: Tensor, chooses: Tensor, gflops: Tensor) -> Values:
    """Return the columns of a network that ends at the last of the rows."""
    if not chooses.any() or chooses.all():
        return {}
    threshold = cheapest_threshold(confidences[:, chooses], predicted[:, chooses], labels[chooses], TOLERANCE)
    rest = ~chooses
    found = measure_exits(exit_by_confidence(confidences[:, rest], threshold), predicted[:, rest], labels[rest], gflops)
    values = (found.accuracy, found.cost, 1 - found.shares[-1].item(), threshold)
    return dict(zip(NAMES, values, strict=True))


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="exit_accuracy",
            label="early exit",
            better="higher",
            priority=3,
            help="accuracy on half of the test images if an image leaves at the first depth whose probability reaches "
            "a threshold, at the latest here; the other half chooses the threshold, which may lose one point",
        ),
        Column(
            name="exit_gflops",
            label="GFLOPs, early exit",
            format=significant,
            better="lower",
            priority=3,
            help="mean GFLOPs of an image with these exits, without the classifiers",
        ),
        share_column(
            name="exit_share",
            label="left early",
            priority=3,
            help="share of the images that leave before this depth",
        ),
        Column(
            name="exit_threshold", label="threshold", format=decimals(2), priority=3, help="probability that was chosen"
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
