"""The numbers of one backbone's features, layer by layer."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.evaluate.config import EvaluateConfig
from limbeck.evaluate.probes import SgdConfig, fit_sgd, lbfgs_accuracy
from limbeck.metrics.knn import euclidean_knn_accuracy, knn_accuracy
from limbeck.metrics.representation import effective_rank

Bank = dict[int, Tensor]
"""Features of the rows of a store: tap -> [N D_tap] float32."""

Probe = Literal["sgd", "lbfgs"] | None


class Scores(NamedTuple):
    """Of one layer: accuracies in [0, 1], None where nothing was measured."""

    effective_rank: float
    knn: float | None = None
    five_nn: float | None = None
    linear: float | None = None


class Labels(NamedTuple):
    """Of the rows of both banks, int64, on one scale."""

    train: Tensor
    test: Tensor
    classes: int


def unlabelled_scores(test: Bank, device: torch.device) -> dict[int, Scores]:
    """What can be said of features without labels."""
    return {tap: Scores(effective_rank(values.to(device)).item()) for tap, values in test.items()}


def labelled_scores(
    train: Bank, test: Bank, labels: Labels, cfg: EvaluateConfig, probe: Probe, device: torch.device, show: str = ""
) -> dict[int, Scores]:
    """All scores of every layer; computed on `device`, one layer of the banks there at a time."""
    linear = _linear(train, test, labels, cfg, probe, device, show)
    found = {}
    for tap, values in test.items():
        sets = train[tap].to(device), labels.train.to(device), values.to(device), labels.test.to(device)
        found[tap] = Scores(
            effective_rank(sets[2]).item(),
            knn_accuracy(*sets, cfg.k, cfg.temperature),
            euclidean_knn_accuracy(*sets),
            linear.get(tap),
        )
    return found


def _linear(
    train: Bank, test: Bank, labels: Labels, cfg: EvaluateConfig, probe: Probe, device: torch.device, show: str
) -> dict[int, float]:
    if probe is None:
        return {}
    if probe == "lbfgs":
        return {
            tap: lbfgs_accuracy(train[tap], labels.train, test[tap], labels.test) for tap in progress(list(train), show)
        }
    sgd = SgdConfig(epochs=cfg.linear_epochs, batch_size=cfg.linear_batch_size, lr=cfg.linear_lr, seed=cfg.seed)
    heads = fit_sgd(train, labels.train, labels.classes, sgd, device, show)
    return heads.accuracy(test, labels.test, cfg.linear_batch_size)
