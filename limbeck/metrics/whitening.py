"""Half-whitening: principal components divided by the fourth root of their variance."""

from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import exact_products

COMPONENTS = 256
"""Most principal components that are kept."""
SMALLEST = 1e-6
"""Components are kept whose variance is more than this share of the largest."""
BLOCK = 8192


class HalfWhitening(NamedTuple):
    """A linear map of features: principal components of a bank, each divided by the fourth root of its variance.

    Whitening divides by the square root and gives noise the weight of what matters; without any, a few directions of
    large variance decide about all cosines. The fourth root is the geometric mean of the two.
    """

    mean: Float[Tensor, " D"]
    projection: Float[Tensor, "D C"]

    @classmethod
    def fit(cls, bank: Float[Tensor, "N D"], components: int = COMPONENTS) -> Self:
        """Return the map with at most `components` principal components of `bank`, computed on its device."""
        with exact_products(bank.device):
            mean = bank.mean(dim=0)
            scatter = torch.zeros(bank.shape[1], bank.shape[1], dtype=torch.float64, device=bank.device)
            for block in bank.split(BLOCK):
                centered = block - mean
                scatter += (centered.mT @ centered).double()
            values, vectors = torch.linalg.eigh(scatter / max(1, len(bank) - 1))
        values, vectors = values.flip(0)[:components], vectors.flip(1)[:, :components]
        retained = values > SMALLEST * values[0].clamp(min=torch.finfo(torch.float64).tiny)
        return cls(mean, (vectors[:, retained] * values[retained] ** -0.25).to(bank.dtype))

    def __call__(self, features: Float[Tensor, "M D"]) -> Float[Tensor, "M C"]:
        """Apply the map."""
        with exact_products(features.device):
            return (features - self.mean) @ self.projection
