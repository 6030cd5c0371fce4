"""Linear probes of extracted features: all layers at once to the optimum, or by a protocol of authors."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.classification.logistic import fit_logistic
from limbeck.classification.series_protocols import one_vs_rest
from limbeck.core.progress import progress
from limbeck.core.schedules import cosine
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import LinearProbe
from limbeck.evaluation.labels import Labels
from limbeck.evaluation.logistic_probe import Features

Predictions = dict[int, Int[Tensor, " M"]]
"""Depth -> the class of every row."""


@dataclass(frozen=True, kw_only=True)
class GradientProbe(ABC):
    """A protocol that trains linear heads by gradient descent on shuffled batches."""

    epochs: int
    """Passes over the training features."""
    batch_size: int
    """Rows per step."""
    lr: float
    """Initial learning rate."""
    seed: int = 0
    """Seed of the order of the rows, and of random weights."""

    @abstractmethod
    def heads(self, dims: Mapping[int, int], classes: int) -> "JointHeads":
        """Return the initial heads, one per depth."""

    @abstractmethod
    def optimizer(self, heads: "JointHeads") -> torch.optim.Optimizer:
        """Return the optimizer of the heads."""

    @abstractmethod
    def learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted within its epoch."""


@dataclass(frozen=True, kw_only=True)
class SGDProbe(GradientProbe):
    """SDSSL's protocol (history of hagiss/SDSSL): momentum 0.9, no weight decay, cosine to 0 per step, zero start.

    The problem is convex, so heads start at zero and the result does not depend on a random draw.
    """

    epochs: int = 100
    batch_size: int = 1024
    lr: float = 0.1
    """Learning rate per 256 rows: the rate used is lr * batch_size / 256."""

    def heads(self, dims: Mapping[int, int], classes: int) -> "JointHeads":
        """Return linear heads, one per depth, with zero weights."""
        return JointHeads(dims, classes)

    def optimizer(self, heads: "JointHeads") -> torch.optim.Optimizer:
        """Return SGD with momentum."""
        return torch.optim.SGD(heads.parameters(), lr=self.lr, momentum=0.9)

    def learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return a cosine from the scaled rate to 0."""
        share = (epoch * steps_per_epoch + step) / (self.epochs * steps_per_epoch)
        return cosine(self.lr * self.batch_size / 256, 0.0, share)


@dataclass(frozen=True, kw_only=True)
class AdamProbe(GradientProbe):
    """W-MSE's protocol (`eval_sgd` of htdt/self-supervised): Adam, L2 weight decay 5e-6, exponential decay per epoch.

    The rate falls by a factor (final_lr / lr)^(1 / epochs) after each epoch; heads start like `nn.Linear`.
    """

    epochs: int = 500
    batch_size: int = 1000
    lr: float = 1e-2
    final_lr: float = 1e-6
    """Learning rate that the epoch after the last would have."""

    def heads(self, dims: Mapping[int, int], classes: int) -> "JointHeads":
        """Return heads with the weights of `nn.Linear`, uniform within 1 / sqrt(D)."""
        heads = JointHeads(dims, classes)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for weight, bias in zip(heads.weights, heads.biases, strict=True):
                bound = weight.shape[1] ** -0.5
                weight.uniform_(-bound, bound, generator=generator)
                bias.uniform_(-bound, bound, generator=generator)
        return heads

    def optimizer(self, heads: "JointHeads") -> torch.optim.Optimizer:
        """Return Adam with coupled weight decay, on biases as well."""
        return torch.optim.Adam(heads.parameters(), lr=self.lr, weight_decay=5e-6)

    def learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the rate of an epoch."""
        return self.lr * (self.final_lr / self.lr) ** (epoch / self.epochs)


class JointHeads(nn.Module):
    """One linear head per depth, trained together; depths of one width are one batched product.

    The heads share nothing, so the sum of their losses trains each as if it were alone. They start at zero.
    """

    def __init__(self, dims: Mapping[int, int], classes: int) -> None:
        super().__init__()
        self.groups = [[depth for depth in dims if dims[depth] == dim] for dim in dict.fromkeys(dims.values())]
        self.depths = [depth for group in self.groups for depth in group]
        self.weights = nn.ParameterList(torch.zeros(len(group), dims[group[0]], classes) for group in self.groups)
        self.biases = nn.ParameterList(torch.zeros(len(group), 1, classes) for group in self.groups)

    def forward(self, features: Features) -> Float[Tensor, "L B classes"]:
        """Return the logits of the `features` of B rows, in the order of `self.depths`."""
        parts = zip(self.groups, self.weights, self.biases, strict=True)
        return torch.cat([bias + torch.stack([features[depth] for depth in group]) @ w for group, w, bias in parts])

    def loss(self, features: Features, labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Return the sum over the depths of the mean cross-entropy."""
        logits = self(features)
        return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(self.depths)), reduction="sum") / len(labels)

    def accuracy(self, features: Features, labels: Int[Tensor, " M"], batch_size: int) -> dict[int, float]:
        """Return the accuracy of the head of each depth."""
        return accuracies(self.predict(features, batch_size), labels)

    @torch.inference_mode()
    def predict(self, features: Features, batch_size: int) -> Predictions:
        """Return the class that the head of each depth gives to every row."""
        device = self.weights[0].device
        batches = torch.arange(len(features[self.depths[0]])).split(batch_size)
        found = torch.cat([self(_rows(features, rows, device)).argmax(dim=-1) for rows in batches], dim=1)
        return dict(zip(self.depths, found, strict=True))


def fit(
    probe: GradientProbe,
    features: Features,
    labels: Int[Tensor, " N"],
    classes: int,
    device: torch.device,
    description: str = "",
) -> JointHeads:
    """Train one head per depth on `features`, which may lie anywhere, and compute on `device`.

    `description` is the text of a progress bar; no bar if empty.
    """
    heads = probe.heads({depth: values.shape[1] for depth, values in features.items()}, classes).to(device)
    orders = _shuffles(len(labels), probe.seed)
    return train_heads(heads, probe, features, labels, orders, description)


def train_heads(
    heads: JointHeads,
    probe: GradientProbe,
    features: Features,
    labels: Int[Tensor, " N"],
    orders: Iterable[Int[Tensor, " N"]],
    description: str = "",
) -> JointHeads:
    """Train `heads` in place, going through the rows in the next of `orders` in each epoch."""
    optimizer, device, order = probe.optimizer(heads), heads.weights[0].device, iter(orders)
    for epoch in progress(range(probe.epochs), description, unit="epochs"):
        batches = next(order).split(probe.batch_size)
        for step, rows in enumerate(batches):
            optimizer.param_groups[0]["lr"] = probe.learning_rate(epoch, step, len(batches))
            optimizer.zero_grad()
            heads.loss(_rows(features, rows, device), labels[rows].to(device)).backward()
            optimizer.step()
    return heads


def lbfgs_predictions(
    train: Float[Tensor, "N D"], train_labels: Int[Tensor, " N"], test: Float[Tensor, "M D"], max_iter: int = 1000
) -> Int[Tensor, " M"]:
    """Return the classes that a multinomial logistic regression fitted to `train` gives to `test`.

    scikit-learn's L-BFGS with its defaults minimizes the sum of the cross-entropies + 0.5 |W|^2, without a penalty on
    the bias, on the features as they are. The "lbfgs" protocol of W-MSE's code (htdt/self-supervised).
    """
    classes = int(train_labels.max()) + 1
    return fit_logistic(train.cpu(), train_labels, classes, max_iter=max_iter)(test.cpu()).argmax(dim=1)


def accuracies(predictions: Predictions, labels: Int[Tensor, " M"]) -> dict[int, float]:
    """Return the share of the predictions of every depth that are the labels."""
    return {depth: (found.cpu() == labels.cpu()).double().mean().item() for depth, found in predictions.items()}


def probe_predictions(
    name: LinearProbe,
    train: Features,
    test: Features,
    labels: Labels,
    cfg: EvaluateConfig,
    device: torch.device,
    description: str = "",
) -> Predictions:
    """Return the classes that the authors' linear probe `name` of every depth gives to the test images."""
    if name in ("lbfgs", "one-vs-rest"):
        predict = lbfgs_predictions if name == "lbfgs" else one_vs_rest
        depths = progress(list(train), description, unit="layers")
        return {depth: predict(train[depth], labels.train, test[depth]) for depth in depths}
    probe = gradient_probe(name, cfg)
    heads = fit(probe, train, labels.train, labels.classes, device, description)
    return heads.predict(test, probe.batch_size)


def gradient_probe(name: LinearProbe, cfg: EvaluateConfig) -> GradientProbe:
    """Return the protocol of "sgd" or "adam" with the settings that `cfg` overrides."""
    default: GradientProbe = SGDProbe(seed=cfg.seed) if name == "sgd" else AdamProbe(seed=cfg.seed)
    return replace(
        default,
        epochs=cfg.linear_epochs or default.epochs,
        lr=cfg.linear_lr or default.lr,
        batch_size=cfg.linear_batch_size or default.batch_size,
    )


def _shuffles(count: int, seed: int) -> Iterator[Tensor]:
    """Yield random orders of `count` rows."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(count, generator=generator)


def _rows(features: Features, rows: Tensor, device: torch.device) -> dict[int, Tensor]:
    return {depth: values[rows.to(values.device)].to(device) for depth, values in features.items()}
