"""Retrieval: how early the other images of the class come when the test images are ranked by cosine."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.augment.draw import hash_uniforms
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals
from limbeck.metrics.retrieval import rank_database

QUERIES = 1000  # test images that are queries, drawn with the seed
BLOCK = 256  # queries at once
NAMES = ("retrieval_map", "recall_1", "recall_5")


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Rank all other test images for up to 1,000 of them, the same ones at every depth and for every network."""
    labels = inputs.data.labels
    assert labels is not None
    order = np.argsort(hash_uniforms(inputs.data.cfg.seed, 0, 0, np.arange(len(labels.test)), 1)[:, 0], kind="stable")
    queries = torch.from_numpy(np.sort(order[:QUERIES])).to(inputs.data.device)
    truth = labels.test.to(inputs.data.device)
    return {
        depth: dict(zip(NAMES, _means(F.normalize(inputs.test(depth), dim=1), truth, queries), strict=True))
        for depth in inputs.depths
    }


def _means(unit: Tensor, labels: Tensor, queries: Tensor) -> list[float | None]:
    """Return mAP and recall over the queries that have another image of their class; None without such a query."""
    parts = []
    for rows in queries.split(BLOCK):
        own = rows[:, None] == torch.arange(len(unit), device=unit.device)
        found = rank_database(unit[rows] @ unit.mT, labels[rows, None] == labels, own, ks=(1, 5))
        parts.append(torch.cat([found.average_precision[:, None], found.recall], dim=1))
    values = torch.cat(parts)
    values = values[values[:, 0].isfinite()]
    return values.mean(dim=0).tolist() if len(values) else [None] * len(NAMES)


def _column(name: str, label: str, help: str, priority: int) -> Column:
    return Column(
        name=name,
        label=label,
        better="higher",
        priority=priority,
        help=help,
        unit="%",
        scale=100,
        format=decimals(1),
    )


METRIC = Metric(
    group="accuracy",
    columns=(
        _column(
            "retrieval_map",
            "mAP",
            "mean average precision (by trapezoids) when all other test images are ranked by cosine for each of up to "
            "1,000 test images, whose positives are the images of its class",
            2,
        ),
        _column("recall_1", "R@1", "share of these queries whose nearest test image is of their class", 3),
        _column("recall_5", "R@5", "share of these queries with an image of their class among the nearest five", 3),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
