"""S2R2: every view ranks the other views of the batch, with those of its own image first.

Varamesh, Diba, Tuytelaars, Van Gool, *Self-Supervised Ranking for Representation Learning*, arXiv 2010.07258. This is a
reconstruction: there is no public code and only the abstracts were available, so the surrogate (Smooth-AP), the
temperature, the number of views and the head are Limbeck's choice.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_indices
from limbeck.losses.ranking import smooth_ap
from limbeck.methods.base import BatchHost
from limbeck.methods.config.s2r2 import S2R2Config


class S2R2(BatchHost):
    """One minus the mean average precision of all views, which go through the network in one batch."""

    cfg: S2R2Config

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Rank [W*V*B D] for the queries [V*B D]; a row's own place in the gallery is left out."""
        count, views = len(queries), self.cfg.num_views
        rows = local_indices(count, queries.device)
        others = torch.arange(1, views, device=queries.device) * (len(targets) // views)
        positives = (rows[:, None] + others) % len(targets)
        return smooth_ap(queries, targets, positives, rows, self.cfg.temperature)
