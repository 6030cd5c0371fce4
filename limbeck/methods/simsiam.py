"""SimSiam: predict the projection of the other view, without an EMA encoder and without negatives.

Chen and He, *Exploring Simple Siamese Representation Learning*, CVPR 2021. Defaults are those of
facebookresearch/simsiam a7bc177, for a ResNet-50.
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.core.types import Batch
from limbeck.losses.alignment import cosine_distance
from limbeck.methods.base import HostOutput, PairHost
from limbeck.methods.config.simsiam import SimSiamConfig
from limbeck.models.heads import Head, mlp


class SimSiam(PairHost):
    """Negative cosine between a prediction and the detached projection of the other view, over both directions."""

    cfg: SimSiamConfig
    has_predictor = True
    collapse_hint = "lower the learning rate, narrow the predictor (bottleneck), or take byol"

    def make_head(self, dim: int, hidden: int | None = None, trailing_norm: bool | None = None) -> Head:
        """Build a projector like that of any host, and a predictor that is narrow in the middle and ends in a bias."""
        widths = [self.cfg.dim, self.cfg.bottleneck, self.cfg.dim]
        return Head(super().make_head(dim, hidden, trailing_norm).projector, mlp(widths, last_bias=True))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass per view; the target is the projection of the other view, without its gradient."""
        output = super().encode(batch, taps)
        return output._replace(targets=tuple(target.detach() for target in output.targets))

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Return the mean of -cos / 2: the sum over both passes is the paper's loss, between -1 and 1 (eq. 2)."""
        return (cosine_distance(queries, targets) - 2) / 4
