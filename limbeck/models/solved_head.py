"""A linear head that is solved and not trained: ridge regression on running moments of features and targets."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses.precision import exact_products


class SolvedHead(nn.Module):
    """Map features to targets by the ridge regression that fits the recent batches, in closed form.

    With the running means of x, y, xx' and xy' over steps, C the covariance of x and r the ridge times its mean
    variance, the weight is (C + r I)^-1 cov(x, y); only `solve` changes what `forward` computes. A new head is random.

    Args:
        dim: width D of the features.
        target_dim: width T of the targets.
        decay: of the moments, per step.
        ridge: in mean variances of a feature.
    """

    weight: Float[Tensor, "D T"]
    bias: Float[Tensor, " T"]

    def __init__(self, dim: int, target_dim: int, decay: float, ridge: float) -> None:
        super().__init__()
        self.decay, self.ridge = decay, ridge
        self.register_buffer("weight", torch.randn(dim, target_dim) / dim**0.5)
        self.register_buffer("bias", torch.zeros(target_dim))
        shapes = {"mean_x": (dim,), "mean_y": (target_dim,), "moment_xx": (dim, dim), "moment_xy": (dim, target_dim)}
        for name, shape in {**shapes, "moment_weight": ()}.items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B T"]:
        """Map features to targets."""
        return features @ self.weight.to(features.dtype) + self.bias.to(features.dtype)

    @torch.no_grad()
    def update(self, features: Float[Tensor, "B D"], targets: Float[Tensor, "B T"]) -> None:
        """Add the moments of a batch."""
        x, y = (rows.to(self.weight.dtype) for rows in (features, targets))
        with exact_products(x.device):
            new = {"mean_x": x.mean(0), "mean_y": y.mean(0), "moment_xx": x.mT @ x / len(x)}
            new |= {"moment_xy": x.mT @ y / len(x), "moment_weight": torch.ones_like(self.get_buffer("moment_weight"))}
        for name, value in new.items():
            self.get_buffer(name).lerp_(value, 1 - self.decay)

    @torch.no_grad()
    def solve(self) -> None:
        """Fit the weight and the bias to the moments, without waiting for the device."""
        names = ("mean_x", "mean_y", "moment_xx", "moment_xy")
        x, y, xx, xy = (self.get_buffer(name) / self.get_buffer("moment_weight") for name in names)
        covariance = xx - torch.outer(x, x)
        ridge = self.ridge * covariance.diagonal().mean()
        with exact_products(x.device):
            factor, _ = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(len(x), dtype=x.dtype, device=x.device))
            self.weight.copy_(torch.cholesky_solve(xy - torch.outer(x, y), factor))
            self.bias.copy_(y - x @ self.weight)
