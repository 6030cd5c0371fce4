"""A linear classifier of features."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class LinearClassifier(NamedTuple):
    """Logits = features @ weight.T + bias."""

    weight: Float[Tensor, "classes D"]
    bias: Float[Tensor, " classes"]

    def __call__(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N classes"]:
        """Return the logits of features."""
        return features @ self.weight.mT + self.bias
