"""SwAV: predict from one view the prototypes that the other view of the image was assigned to.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, *Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments*, NeurIPS 2020. Defaults are those of `main_swav.py` in facebookresearch/swav 06b1b7c.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather, local_rows
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.assignment import prototype_scores, sinkhorn, swapped_prediction
from limbeck.methods.base import Host, HostOutput, encode_views
from limbeck.methods.base.queue_host import enqueue_normalized
from limbeck.methods.config.swav import SwAVConfig
from limbeck.models.queue import Queue

ASSIGNED = ("first", "second")  # the views that are assigned to prototypes, and their queues


class SwAV(Host):
    """Swapped prediction over prototypes, which are learned as unit rows.

    The targets are the codes and, below them, the prototypes: a method that detaches the targets scores its queries
    with prototypes that it does not train.
    """

    cfg: SwAVConfig
    frozen: Tensor  # [] int64, steps for which the prototypes are still frozen

    def __init__(self, backbone: Encoder, cfg: SwAVConfig) -> None:
        super().__init__(backbone, cfg)
        self.prototypes = nn.Parameter(F.normalize(2 * torch.rand(cfg.num_prototypes, cfg.dim) - 1, dim=1))
        self.queue = Queue(cfg.queue_size, dict.fromkeys(ASSIGNED, cfg.dim)) if cfg.queue_size else None
        self.register_buffer("frozen", torch.tensor(cfg.freeze_steps or 0))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass over the rows [view 1; view 2; ...]; its targets are [2*B codes; D rows of prototypes, Q]."""
        features = encode_views(self.backbone, batch.views, taps)
        z = self.head.project(features.final)
        views = z.detach().chunk(len(batch.views))
        memory = {name: gather(view) for name, view in zip(ASSIGNED, views, strict=False)}
        codes = [self._assign(name, rows) for name, rows in memory.items()]
        # Frozen prototypes get a zero gradient, not none, because DDP waits for one. Weight decay only shortens rows.
        prototypes = torch.where(self.frozen > 0, self.prototypes.detach(), self.prototypes)
        targets = torch.cat([*codes, prototypes.T])
        return HostOutput((features,), (z,), (targets,), {} if self.queue is None else memory)

    @torch.no_grad()
    def _assign(self, name: str, rows: Float[Tensor, "rows D"]) -> Float[Tensor, "B Q"]:
        """Return the codes of this process's images in a view; `rows` are those of all processes."""
        scores = prototype_scores(rows, self.prototypes)
        epsilon, iterations = self.cfg.epsilon, self.cfg.sinkhorn_iterations
        if self.queue is None:
            return local_rows(sinkhorn(scores, epsilon, iterations))
        earlier = prototype_scores(self.queue[name], self.prototypes)
        full = (self.queue.num_enqueued >= self.queue.rows).expand(self.queue.rows)
        used = torch.cat([full.new_ones(len(rows)), full])
        codes = sinkhorn(torch.cat([scores, earlier]), epsilon, iterations, used)
        return local_rows(codes[: len(rows)])

    def pair_loss(self, queries: Float[Tensor, "rows D"], targets: Float[Tensor, "codes Q"]) -> Float[Tensor, ""]:
        """Predict the codes of the two first views from every other view, [V*B D]."""
        codes, prototypes = targets.split([len(targets) - self.cfg.dim, self.cfg.dim])
        codes = codes.unflatten(0, (len(ASSIGNED), -1))
        scores = prototype_scores(queries, prototypes.T).unflatten(0, (-1, codes.shape[1]))
        return swapped_prediction(scores, codes, self.cfg.temperature)

    @torch.no_grad()
    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Normalize the prototypes, count down the steps for which they are frozen, and fill the queue."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        self.frozen.sub_(1).clamp_(min=0)
        if self.queue is not None and step_info.step >= self.cfg.queue_delay_steps:
            enqueue_normalized(self.queue, loss.memory)
