"""Multinomial logistic regression on the features of all depths at once, to the optimum.

In whitened coordinates the mean cross-entropy has no curvature above 1/2 (Boehning, *Multinomial logistic regression
algorithm*, 1992), so that L-BFGS takes some dozens of passes over the rows; on features as they are it may take a
thousand. Features are whitened within the products and not in memory: logits = (x - mean) T W + b.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.losses.precision import exact_products
from limbeck.metrics.lbfgs import minimize

Features = Mapping[int, Tensor]
"""Depth -> [N D_depth]."""
BLOCK = 2**22  # logits, or features of a depth, that are held at a time


@dataclass(frozen=True, kw_only=True)
class LogisticProbe:
    """The regression minimizes mean cross-entropy + penalty / 2 |W|^2, where W applies to whitened features."""

    penalties: tuple[float, ...] = (0.1, 0.01, 0.001, 0.0001)
    """Strengths to choose from, for each depth by the accuracy on the rows that are held out; the strongest first."""
    held_out: int = 5
    """One of so many training rows is held out while the strength is chosen; then all are fitted."""
    ridge: float = 0.1
    """Added to the variance of every direction before whitening, in mean variances: noise is not made as large as what
    matters."""
    tolerance: float = 1e-4
    """Largest entry of the gradient at the optimum, as scikit-learn's `tol`; while choosing, ten times as much."""
    max_iter: int = 1000
    """Most passes over the rows for one strength."""
    seed: int = 0
    """Seed of the rows that are held out."""


class Coordinates(NamedTuple):
    """Whitened coordinates of the features of one depth: (x - mean) T."""

    mean: Float[Tensor, " D"]
    inverse: Float[Tensor, "D width"]
    """T, the inverse Cholesky factor of covariance and ridge; zeros from column D on, up to the widest depth."""

    @classmethod
    def fit(cls, rows: Float[Tensor, "N D"], ridge: float, width: int, device: torch.device) -> "Coordinates":
        """Return the coordinates of the rows, which may lie anywhere, computed in blocks on `device`."""
        count, dim = rows.shape
        blocks = rows.split(max(1, BLOCK // dim))
        mean = torch.stack([block.to(device).double().sum(0) for block in blocks]).sum(0) / count
        scatter = mean.new_zeros(dim, dim)
        for block in blocks:
            centered = block.to(device) - mean.to(rows.dtype)
            scatter += (centered.mT @ centered).double()
        covariance, one = scatter / count, torch.eye(dim, dtype=torch.float64, device=device)
        added = ridge * covariance.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        factor = torch.linalg.cholesky_ex(covariance + added * one).L
        inverse = torch.linalg.solve_triangular(factor.mT, one, upper=True)
        return cls(mean.to(rows.dtype), F.pad(inverse.to(rows.dtype), (0, width - dim)))


class LogisticHeads:
    """One regression per depth on the same rows.

    Attributes:
        depths: in the order of the regressions.
        weights: [L width + 1 classes] in whitened coordinates; the last row is the bias, which is not penalized.
    """

    def __init__(
        self, features: Features, labels: Int[Tensor, " N"], classes: int, device: torch.device, ridge: float
    ) -> None:
        self.features, self.labels, self.device = features, labels.to(device), device
        self.depths, self.classes = list(features), classes
        width, dtype = max(rows.shape[1] for rows in features.values()), next(iter(features.values())).dtype
        with exact_products(device):
            self.coordinates = [Coordinates.fit(rows, ridge, width, device) for rows in features.values()]
        self.weights = torch.zeros(len(features), width + 1, classes, dtype=dtype, device=device)

    def minimize(self, row_weights: Float[Tensor, " N"], penalty: Float[Tensor, " L"], probe: LogisticProbe) -> None:
        """Move the weights from where they are to the optimum for these weights of the rows and penalties."""
        shape = self.weights.shape

        def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
            value, gradient = self.objective(flat.view(shape), row_weights, penalty)
            return value, gradient.flatten(1)

        with exact_products(self.device):
            found = minimize(objective, self.weights.flatten(1), 0.5 + penalty, probe.tolerance, probe.max_iter)
        self.weights = found.view(shape)

    def objective(
        self, weights: Float[Tensor, "L P classes"], row_weights: Float[Tensor, " N"], penalty: Float[Tensor, " L"]
    ) -> tuple[Float[Tensor, " L"], Float[Tensor, "L P classes"]]:
        """Return the weighted mean cross-entropy + penalty / 2 |W|^2 of every depth, and its gradient."""
        columns, total = self._columns(weights), row_weights.sum()
        losses, biases = torch.zeros_like(penalty), torch.zeros_like(weights[:, -1])
        products = [torch.zeros_like(matrix) for matrix, _ in columns]
        for rows in self._blocks(len(self.labels)):
            blocks = [self.features[depth][rows].to(self.device) for depth in self.depths]
            logits = _logits(blocks, columns)
            labels = self.labels[rows].expand(len(logits), -1)[..., None]
            errors = F.log_softmax(logits, dim=2)
            losses -= errors.gather(2, labels)[..., 0] @ row_weights[rows]
            errors = errors.exp_().scatter_add_(2, labels, errors.new_full((), -1.0).expand(labels.shape))
            errors *= row_weights[rows, None]
            for product, block, error in zip(products, blocks, errors, strict=True):
                product.addmm_(block.mT, error)
            biases += errors.sum(1)
        parts = zip(self.coordinates, products, biases, strict=True)
        gradient = torch.stack([inverse.mT @ (p - mean[:, None] * bias) for (mean, inverse), p, bias in parts])
        gradient = gradient / total + penalty[:, None, None] * weights[:, :-1]
        value = losses / total + penalty / 2 * weights[:, :-1].square().sum((1, 2))
        return value, torch.cat([gradient, biases[:, None] / total], dim=1)

    def accuracy(
        self, features: Features, labels: Int[Tensor, " M"], row_weights: Float[Tensor, " M"]
    ) -> Float[Tensor, " L"]:
        """Return for every depth the weighted share of rows whose largest logit is that of their label, float64."""
        labels, counted = labels.to(self.device, non_blocking=True), row_weights.to(self.device).double()
        return (self.predict(features)[1] == labels).double() @ counted / counted.sum()

    def predict(self, features: Features) -> tuple[Float[Tensor, "L M"], Int[Tensor, "L M"]]:
        """Return the largest probability of every row at every depth, and its class."""
        count, parts = len(next(iter(features.values()))), []
        with exact_products(self.device):
            columns = self._columns(self.weights)
            for rows in self._blocks(count):
                logits = _logits([features[depth][rows].to(self.device) for depth in self.depths], columns)
                parts.append((logits.softmax(dim=2).amax(dim=2), logits.argmax(dim=2)))
        confidences, classes = zip(*parts, strict=True)
        return torch.cat(confidences, dim=1), torch.cat(classes, dim=1)

    def top_correct(self, features: Features, labels: Int[Tensor, " M"], k: int) -> Bool[Tensor, "L M"]:
        """Return for every depth and row whether its label has one of the `k` largest logits."""
        labels, parts = labels.to(self.device), []
        with exact_products(self.device):
            columns = self._columns(self.weights)
            for rows in self._blocks(len(labels)):
                logits = _logits([features[depth][rows].to(self.device) for depth in self.depths], columns)
                parts.append((logits.topk(k, dim=2).indices == labels[rows, None]).any(dim=2))
        return torch.cat(parts, dim=1)

    def _columns(self, weights: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return matrix [D classes] and bias [classes] of every depth for features as they are."""
        found = []
        for (mean, inverse), weight in zip(self.coordinates, weights, strict=True):
            matrix = inverse @ weight[:-1]
            found.append((matrix, weight[-1] - mean @ matrix))
        return found

    def _blocks(self, count: int) -> Iterator[slice]:
        size = max(1, BLOCK // (len(self.depths) * self.classes))
        return (slice(start, min(start + size, count)) for start in range(0, count, size))


def fit_heads(
    probe: LogisticProbe,
    features: Features,
    labels: Int[Tensor, " N"],
    classes: int,
    device: torch.device,
    description: str = "",
) -> LogisticHeads:
    """Fit one regression per depth on `features`, which may lie anywhere, and compute on `device`.

    The strength of the penalty is chosen for all depths at once, from the strongest on, each from the optimum before.
    `description` is the text of a progress bar; no bar if empty.
    """
    heads = LogisticHeads(features, labels, classes, device, probe.ridge)
    held = _held_out(len(labels), probe).to(heads.weights)
    best, optimum = held.new_full((len(features),), -1.0).double(), heads.weights
    chosen, rough = held.new_zeros(len(features)), replace(probe, tolerance=10 * probe.tolerance)
    for strength in progress(probe.penalties, description, unit="strengths"):
        heads.minimize(1 - held, torch.full_like(chosen, strength), rough)
        accuracy = heads.accuracy(features, labels, held)
        better = accuracy > best
        best, chosen = torch.where(better, accuracy, best), chosen.masked_fill(better, strength)
        optimum = torch.where(better[:, None, None], heads.weights, optimum)
    heads.weights = optimum
    heads.minimize(torch.ones_like(held), chosen, probe)
    return heads


def _held_out(count: int, probe: LogisticProbe) -> Tensor:
    """Return 1 for the rows that are held out and 0 for the others, [N]."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(probe.seed))
    return torch.zeros(count).index_fill_(0, order[:: probe.held_out], 1.0)


def _logits(blocks: list[Tensor], columns: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "L B classes"]:
    pairs = zip(blocks, columns, strict=True)
    return torch.stack([torch.addmm(bias, block, matrix) for block, (matrix, bias) in pairs])
