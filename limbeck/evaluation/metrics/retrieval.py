"""Retrieval: how early the other images of the class come when the test images are ranked by cosine."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Metric, Values, share_column
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
    """Return mAP and recall over the queries that have another image of their class; None without such a query.

    None as well where all images are of one class, and any order of them is right.
    """
    if (labels == labels[0]).all():
        return [None] * len(NAMES)
    parts: list[Tensor] = []
    for rows in queries.split(BLOCK):
        own = rows[:, None] == torch.arange(len(unit), device=unit.device)
        found = rank_database(unit[rows] @ unit.mT, labels[rows, None] == labels, own, ks=(1, 5))
        parts.append(torch.cat([found.average_precision[:, None], found.recall], dim=1))
    values = torch.cat(parts)
    values = values[values[:, 0].isfinite()]
    return values.mean(dim=0).tolist() if len(values) else [None] * len(NAMES)


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="retrieval_map",
            label="mAP",
            help="mean average precision (by trapezoids) when all other test images are ranked by cosine for each of "
            "up to 1,000 test images, whose positives are the images of its class",
            better="higher",
            priority=2,
        ),
        share_column(
            name="recall_1",
            label="R@1",
            help="share of these queries whose nearest test image is of their class",
            better="higher",
            priority=3,
        ),
        share_column(
            name="recall_5",
            label="R@5",
            help="share of these queries with an image of their class among the nearest five",
            better="higher",
            priority=3,
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
