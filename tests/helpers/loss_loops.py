"""Losses written as loops over rows, from their formulas; nothing of limbeck is used."""

from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor


def info_nce_loops(
    queries: Tensor, candidates: Tensor, positives: Tensor, t: float, exclude: Tensor | None = None
) -> Tensor:
    total = queries.new_zeros(())
    for i, q in enumerate(queries):
        used = [j for j in range(len(candidates)) if exclude is None or j != int(exclude[i])]
        cos = {j: (q @ candidates[j]) / (q.norm() * candidates[j].norm()) for j in used}
        denominator = sum((torch.exp(cos[j] / t) for j in used), start=queries.new_zeros(()))
        total = total - torch.log(torch.exp(cos[int(positives[i])] / t) / denominator)
    return total / len(queries)


def sup_con_loops(queries: Tensor, candidates: Tensor, positives: Tensor, t: float, exclude: Tensor) -> Tensor:
    total = queries.new_zeros(())
    for i, q in enumerate(queries):
        found = [p for p in range(len(candidates)) if positives[i, p] and p != exclude[i]]
        for p in found:
            loss = info_nce_loops(q[None], candidates, torch.tensor([p]), t, exclude[i : i + 1])
            total = total + loss / len(found) / len(queries)
    return total


def smooth_ap_loops(
    queries: Tensor, gallery: Tensor, positives: list[list[int]], ranked: list[list[int]], t: float
) -> Tensor:
    """Return the loss; `ranked` are the rows of the gallery that each query ranks."""
    total = queries.new_zeros(())
    for q, matching, rows in zip(queries, positives, ranked, strict=True):
        s = [(q @ g) / (q.norm() * g.norm()) for g in gallery]
        for i in matching:
            rank_positive = 1 + sum(1 / (1 + torch.exp((s[i] - s[j]) / t)) for j in matching if j != i)
            rank_all = 1 + sum(1 / (1 + torch.exp((s[i] - s[j]) / t)) for j in rows if j != i)
            total = total + rank_positive / rank_all / len(matching) / len(queries)
    return 1 - total


def same_component(labels: Tensor) -> np.ndarray:
    return (labels[:, None] == labels).numpy()


def whiten_loops(x: Tensor, shrinkage: float) -> Tensor:
    """Whiten one slice [B D]: covariance entry by entry, Cholesky-Banachiewicz, forward substitution row by row."""
    count, width = x.shape
    centered = [[x[n, c] - sum(x[:, c]) / count for c in range(width)] for n in range(count)]
    factor: list[list[Any]] = [[0.0] * width for _ in range(width)]
    for i in range(width):
        for j in range(i + 1):
            entry = (1 - shrinkage) * sum(row[i] * row[j] for row in centered) / (count - 1) + shrinkage * (i == j)
            rest = entry - sum(factor[i][k] * factor[j][k] for k in range(j))
            factor[i][j] = rest**0.5 if i == j else rest / factor[j][j]
    rows = []
    for row in centered:
        z: list[Tensor] = []
        for i in range(width):
            z.append((row[i] - sum(factor[i][k] * z[k] for k in range(i))) / factor[i][i])
        rows.append(torch.stack(z))
    return torch.stack(rows)


def w_mse_loops(views: Tensor, euclidean: bool) -> Tensor:
    """Return the mean over unordered pairs of the views [V B D] of the mean over images."""
    losses = []
    for first, second in combinations(views, 2):
        for a, b in zip(first, second, strict=True):
            cosine = (a @ b) / (a.norm() * b.norm())
            losses.append(((a - b) ** 2).mean() if euclidean else 2 - 2 * cosine)
    return torch.stack(losses).mean()


def sinkhorn_loops(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    codes = [[float(np.exp(s / epsilon)) for s in row] for row in scores.tolist()]
    for _ in range(iterations):
        sums = [sum(column) for column in zip(*codes, strict=True)]
        codes = [[c / s for c, s in zip(row, sums, strict=True)] for row in codes]
        codes = [[c / sum(row) for c in row] for row in codes]
    return torch.tensor(codes, dtype=torch.float64)


def prediction_loops(scores: Tensor, codes: Tensor, t: float) -> Tensor:
    """Return half the sum over codes of the mean over the other views of the mean over images."""
    total = scores.new_zeros(())
    for c, rows in enumerate(codes):
        for v, view in enumerate(scores):
            for i, row in enumerate(view if v != c else []):
                p = torch.exp(row / t) / torch.exp(row / t).sum()
                total = total - (rows[i] * torch.log(p)).sum() / (len(codes) * (len(scores) - 1) * len(view))
    return total
