"""A linear classifier of features."""

from typing import NamedTuple, Self

from jaxtyping import Float
from torch import Tensor


class LinearClassifier(NamedTuple):
    """Logits = features @ weight.T + bias."""

    weight: Float[Tensor, "classes D"]
    bias: Float[Tensor, " classes"]

    def __call__(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N classes"]:
        """Return the logits of features."""
        return features @ self.weight.mT + self.bias

    def of_unscaled(self, mean: Float[Tensor, " D"], scale: Float[Tensor, " D"] | Float[Tensor, ""]) -> Self:
        """Return the classifier of x that gives the logits of this one for (x - mean) / scale."""
        weight = self.weight / scale
        return self._replace(weight=weight, bias=self.bias - weight @ mean)
