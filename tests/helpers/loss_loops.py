"""Losses written as loops over rows, from their formulas; nothing of limbeck is used."""

from itertools import combinations, pairwise
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


def moments_loops(rows: Tensor) -> tuple[list[Any], list[list[Any]]]:
    """Return the means of the columns, and all covariances divided by the number of rows, entry by entry."""
    count, width = rows.shape
    means = [sum(rows[n, c] for n in range(count)) / count for c in range(width)]
    return means, [
        [sum((rows[n, i] - means[i]) * (rows[n, j] - means[j]) for n in range(count)) / count for j in range(width)]
        for i in range(width)
    ]


def barlow_loops(first: Tensor, second: Tensor, weight: float) -> Tensor:
    columns = []
    for rows in (first, second):
        means, covariance = moments_loops(rows)
        columns.append([(rows[:, c] - means[c]) / (covariance[c][c] + 1e-5) ** 0.5 for c in range(rows.shape[1])])
    total = first.new_zeros(())
    for i, a in enumerate(columns[0]):
        for j, b in enumerate(columns[1]):
            correlation = sum(x * y for x, y in zip(a, b, strict=True)) / len(a)
            total = total + ((1 - correlation) ** 2 if i == j else weight * correlation**2)
    return total


def variance_loops(rows: Tensor) -> Tensor:
    count, (_, covariance) = len(rows), moments_loops(rows)
    deviations = [(covariance[c][c] * count / (count - 1) + 1e-4) ** 0.5 for c in range(rows.shape[1])]
    return torch.stack([(1 - deviation).clamp(min=0) for deviation in deviations]).mean()


def covariance_loops(rows: Tensor) -> Tensor:
    count, (_, covariance) = len(rows), moments_loops(rows)
    pairs = [(i, j) for i in range(rows.shape[1]) for j in range(rows.shape[1]) if i != j]
    return torch.stack([(covariance[i][j] * count / (count - 1)) ** 2 for i, j in pairs]).sum() / rows.shape[1]


def vicreg_loops(first: Tensor, second: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    squares = [(a - b) ** 2 for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)]
    total = invariance * torch.stack(squares).mean()
    for rows in (first, second):
        total = total + variance * variance_loops(rows) / 2 + covariance * covariance_loops(rows)
    return total


def epps_pulley_loops(sample: Tensor) -> Tensor:
    """Return the statistic of a sample [N]: the trapezoidal rule over 17 points, with complex numbers."""
    points = [-5 + 10 * k / 16 for k in range(17)]
    values = []
    for t in points:
        empirical = sum(torch.exp(1j * t * x) for x in sample) / len(sample)
        values.append((empirical - np.exp(-(t**2) / 2)).abs() ** 2 * np.exp(-(t**2) / 2) if t else sample.sum() * 0)
    areas = [(a + b) / 2 * 10 / 16 for a, b in pairwise(values)]
    return len(sample) * torch.stack(areas).sum()


def lejepa_loops(views: Tensor, directions: Tensor, weight: float) -> Tensor:
    """Return the loss of the embeddings [V B D], of which the first two views are global."""
    center = (views[0] + views[1]) / 2
    distances = [((row - center[i]) ** 2).mean() for view in views for i, row in enumerate(view)]
    statistics = [epps_pulley_loops(view @ direction) for view in views for direction in directions]
    return (1 - weight) * torch.stack(distances).mean() + weight * torch.stack(statistics).mean()


def empssl_loops(views: Tensor, weight: float, epsilon: float) -> Tensor:
    """Return the loss of the embeddings [V B D]: the coding rate by the eigenvalues of the sum of outer products."""
    unit = torch.stack([torch.stack([row / row.norm() for row in view]) for view in views])
    count, width = unit.shape[1:]
    centers = [sum(view[i] for view in unit) / len(unit) for i in range(count)]
    cosines = [view[i] @ centers[i] / centers[i].norm() for view in unit for i in range(count)]
    rates = []
    for view in unit:
        moments = torch.stack([torch.outer(row, row) for row in view]).sum(0)
        rates.append(torch.log(1 + width / (count * epsilon) * torch.linalg.eigvalsh(moments)).sum() / 2)
    return -weight * torch.stack(cosines).mean() - torch.stack(rates).mean()
