"""EMP-SSL: very many crops of an image agree with their mean, and the crops of a batch fill the sphere.

Tong, Chen, Ma, LeCun, *EMP-SSL: Towards Self-Supervised Learning in One Training Epoch*, arXiv 2304.03977. Defaults are
those of the README of tsb0601/EMP-SSL 8fc3758, for a ResNet-18 on CIFAR-10.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes
from limbeck.core.types import Batch
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.coding_rate import total_coding_rate
from limbeck.methods.base import Host, HostOutput, encode_views
from limbeck.methods.config.empssl import EMPSSLConfig


class EMPSSL(Host):
    """- weight * cosine of each crop with the mean of its image - coding rate of each view."""

    cfg: EMPSSLConfig
    collapse_hint = "lower invariance_weight or epsilon, lower the learning rate or take a larger batch"

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass over the rows [view 1; view 2; ...]; the target is the mean of an image's unit rows, [B D]."""
        features = encode_views(self.backbone, batch.views, taps)
        z = self.head.project(features.final)
        center = F.normalize(z, dim=1).unflatten(0, (len(batch.views), -1)).mean(0)
        return HostOutput((features,), (z,), (center,), {})

    def pair_loss(self, queries: Float[Tensor, "rows D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Draw all crops, [V*B D], to the target of their image, and spread those of each view."""
        views = len(queries) // len(targets)
        cosine = 1 - cosine_distance(queries, targets.repeat(views, 1)) / 2
        rate = total_coding_rate(queries.unflatten(0, (views, -1)), self.cfg.epsilon, mean_over_processes)
        return -self.cfg.invariance_weight * cosine - rate
