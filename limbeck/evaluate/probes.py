"""Linear probes of cached features: all layers at once by SGD, or layer by layer by L-BFGS."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.progress import progress
from limbeck.core.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """SDSSL's linear protocol (history of hagiss/SDSSL): SGD, momentum 0.9, no decay, cosine to 0, no warm-up."""

    epochs: int = 100
    """Passes over the training features."""
    batch_size: int = 1024
    """Rows per step."""
    lr: float = 0.1
    """Learning rate per 256 rows: the rate used is lr * batch_size / 256."""
    seed: int = 0
    """Seed of the order of the rows."""


class JointHeads(nn.Module):
    """One linear head per tap, trained together; layers of one width are one batched product.

    The heads share nothing, so the sum of their losses trains each as if it were alone. They start at zero: the
    problem is convex, and a probe's number should not hang on a draw.
    """

    def __init__(self, dims: Mapping[int, int], classes: int) -> None:
        super().__init__()
        self.groups = [[tap for tap in dims if dims[tap] == dim] for dim in dict.fromkeys(dims.values())]
        self.taps = [tap for group in self.groups for tap in group]
        self.weights = nn.ParameterList(torch.zeros(len(group), dims[group[0]], classes) for group in self.groups)
        self.biases = nn.ParameterList(torch.zeros(len(group), 1, classes) for group in self.groups)

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        """Logits [L B classes] of the pooled `features` (tap -> [B D_tap]), in the order of `self.taps`."""
        parts = zip(self.groups, self.weights, self.biases, strict=True)
        return torch.cat([bias + torch.stack([features[tap] for tap in taps]) @ weight for taps, weight, bias in parts])

    def loss(self, features: Mapping[int, Tensor], labels: Tensor) -> Tensor:
        """Sum over the taps of the mean cross-entropy; `labels` [B] int64."""
        logits = self(features)
        everywhere = labels.repeat(len(self.taps))
        return F.cross_entropy(logits.flatten(0, 1), everywhere, reduction="sum") / len(labels)

    @torch.inference_mode()
    def accuracy(self, features: Mapping[int, Tensor], labels: Tensor, batch_size: int) -> dict[int, float]:
        """Share of rows that each tap's head labels correctly."""
        device = self.weights[0].device
        right = torch.zeros(len(self.taps), dtype=torch.int64, device=device)
        for rows in torch.arange(len(labels)).split(batch_size):
            logits = self(_rows(features, rows, device))
            right += (logits.argmax(dim=-1) == labels[rows].to(device)).sum(dim=-1)
        return {tap: count / len(labels) for tap, count in zip(self.taps, right.tolist(), strict=True)}


def fit_sgd(
    features: Mapping[int, Tensor],
    labels: Tensor,
    classes: int,
    cfg: SgdConfig,
    device: torch.device,
    show: str = "",
) -> JointHeads:
    """Train one head per tap on `features` (tap -> [N D_tap]) and `labels` [N], lying anywhere; compute on `device`.

    `show` is the text of a progress bar; none if empty.
    """
    heads = JointHeads({tap: values.shape[1] for tap, values in features.items()}, classes).to(device)
    base = cfg.lr * cfg.batch_size / 256
    optimiser = torch.optim.SGD(heads.parameters(), lr=base, momentum=0.9)
    order = torch.Generator().manual_seed(cfg.seed)
    batches = -(-len(labels) // cfg.batch_size)
    for epoch in progress(range(cfg.epochs), show):
        for step, rows in enumerate(torch.randperm(len(labels), generator=order).split(cfg.batch_size)):
            optimiser.param_groups[0]["lr"] = cosine(base, 0.0, (epoch * batches + step) / (cfg.epochs * batches))
            optimiser.zero_grad()
            heads.loss(_rows(features, rows, device), labels[rows].to(device)).backward()
            optimiser.step()
    return heads


def lbfgs_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, max_iter: int = 1000
) -> float:
    """Share of `test` [M D] that a multinomial logistic regression fitted to `train` [N D] labels correctly.

    scikit-learn's L-BFGS with its defaults: minimises the sum of the cross-entropies + 0.5 |W|^2, the bias free, the
    features as they are. The "lbfgs" protocol of W-MSE's code (htdt/self-supervised).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(solver="lbfgs", max_iter=max_iter)
    # One thread: with two on a busy machine of two cores the same 2,000 rows took 4 to 26 s instead of 0.4.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # `max_iter` is part of the protocol
        model.fit(train.cpu().numpy(), train_labels.cpu().numpy())
    predicted = torch.from_numpy(model.predict(test.cpu().numpy()))
    return (predicted == test_labels.cpu()).double().mean().item()


def _rows(features: Mapping[int, Tensor], rows: Tensor, device: torch.device) -> dict[int, Tensor]:
    return {tap: values[rows.to(values.device)].to(device) for tap, values in features.items()}
