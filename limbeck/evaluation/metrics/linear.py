"""Linear probe accuracy, by the protocol that the configuration chooses."""

import torch

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.labels import Labels
from limbeck.evaluation.metric import Column, Metric, Values, decimals
from limbeck.evaluation.probes import probe_accuracies

TOP = 5  # classes that may be right


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Fit the probes of all depths on the training images and score them on the test images."""
    data = inputs.data
    if data.linear_probe is None:
        return {}
    assert data.labels is not None
    if data.linear_probe == "logistic":
        return _logistic(inputs, data.labels)
    text = data.description(f"{inputs.model.name}: linear probe")
    found = probe_accuracies(
        data.linear_probe, inputs.train_bank, inputs.test_bank, data.labels, data.cfg, data.device, text
    )
    return {depth: {"linear": accuracy} for depth, accuracy in found.items()}


def _logistic(inputs: MetricInputs, labels: Labels) -> dict[int, Values]:
    """Return the accuracies of the heads that other metrics read as well, with top-5 for more than 5 classes."""
    images = labels.test
    shares = inputs.heads.accuracy(inputs.test_bank, images, torch.ones(len(images))).tolist()
    found: dict[int, Values] = {depth: {"linear": share} for depth, share in zip(inputs.depths, shares, strict=True)}
    if labels.classes > TOP:
        for depth, share in zip(inputs.depths, inputs.heads.top_accuracy(inputs.test_bank, images, TOP), strict=True):
            found[depth]["linear_top5"] = share.item()
    return found


METRIC = Metric(
    group="accuracy",
    columns=(
        Column(
            name="linear",
            label="linear",
            unit="%",
            scale=100,
            format=decimals(1),
            better="higher",
            accuracy=True,
            help="accuracy of a linear classifier on the features",
        ),
        Column(
            name="linear_top5",
            label="linear, top 5",
            unit="%",
            scale=100,
            format=decimals(1),
            better="higher",
            accuracy=True,
            priority=3,
            help="share of the test images whose class is among the five most probable ones of the logistic probe; "
            "for more than five classes",
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
