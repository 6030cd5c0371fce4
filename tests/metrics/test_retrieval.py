"""Retrieval against revisitop's numbers for its three protocols, and against loops."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from limbeck.metrics.retrieval import rank_database, trapezoid_precision
from tests.helpers.golden import Golden, assert_allclose


def test_the_three_protocols_of_the_authors(golden: Callable[[str], Golden]) -> None:
    truth = golden("retrieval")
    queries, database = (F.normalize(torch.from_numpy(truth[name])) for name in ("queries", "database"))
    scores = queries @ database.mT
    np.testing.assert_array_equal(scores.argsort(dim=1, descending=True, stable=True).T, truth["ranks"])
    easy, hard, junk = (torch.from_numpy(truth[name]) for name in ("easy", "hard", "junk"))
    protocols = {"easy": (easy, hard | junk), "medium": (easy | hard, junk), "hard": (hard, easy | junk)}
    for name, (positives, ignored) in protocols.items():
        found = rank_database(scores, positives, ignored, ks=truth["kappas"].tolist())
        assert_allclose(found.average_precision, truth[f"{name}_ap"], rtol=1e-7, atol=1e-9)
        assert_allclose(found.average_precision.nanmean(), truth[f"{name}_map"], rtol=1e-7)
        assert_allclose(found.precision.nanmean(dim=0), truth[f"{name}_precision"], rtol=1e-7)


def test_trapezoids_as_a_loop() -> None:
    relevant = torch.rand(7, 20, generator=torch.Generator().manual_seed(0)) < 0.3
    relevant[3] = False
    total = relevant.sum(dim=1) + torch.tensor([0, 2, 0, 1, 5, 0, 0])
    expected = []
    for row, count in zip(relevant.tolist(), total.tolist(), strict=True):
        area, seen = 0.0, 0
        for rank, hit in enumerate(row):
            if hit:
                area += (1.0 if rank == 0 else seen / rank) + (seen + 1) / (rank + 1)
                seen += 1
        expected.append(area / (2 * count))
    assert_allclose(trapezoid_precision(relevant, total), np.array(expected), rtol=1e-12)


def test_known_rankings() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    first = torch.tensor([[True, False, False, False]])
    found = rank_database(scores, first, ks=(1, 3))
    assert (found.average_precision.item(), found.precision.tolist(), found.recall.tolist()) == (1, [[1, 1]], [[1, 1]])
    last = rank_database(scores, first.flip(1), ks=(1, 3))
    assert (last.average_precision.item(), last.recall.tolist()) == (0.125, [[0, 0]])
    assert rank_database(scores, first.flip(1), ~first.flip(1)).average_precision.item() == 1
    nothing = rank_database(scores, first & ~first)
    assert nothing.average_precision.isnan().all()
    assert nothing.recall.isnan().all()
