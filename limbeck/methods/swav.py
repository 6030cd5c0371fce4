"""SwAV: predict from one view to which prototypes the other view of the image was assigned.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, *Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments*, NeurIPS 2020. Defaults are those of `main_swav.py` in facebookresearch/swav 06b1b7c.
"""

from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.distributed import gather, local_rows
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder, Features, LossOutput, StepInfo
from limbeck.losses.assignment import prototype_scores, sinkhorn, swapped_prediction
from limbeck.methods.base import Host, HostConfig, HostOutput, MethodCard
from limbeck.methods.base.queue import enqueue_normalized, resolve_queue_size
from limbeck.models.queue import Queue

CODED = ("first", "second")  # the views that are assigned to prototypes, and the streams of the queue


@dataclass(frozen=True, kw_only=True)
class SwAVConfig(HostConfig):
    """Clusters while it learns, from two large crops and many small ones; needs no negatives and no teacher."""

    name: ClassVar[str] = "swav"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the cluster of a large crop from the other crops",
        state="nothing, or a queue for small batches",
        use_when="convolutional networks, and time for small crops but not for large batches",
        cost=4.8,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    head_bias: ClassVar[bool] = True
    views: str = "multicrop"
    """Preset of augmentations (docs/data.md); the first two views are assigned to prototypes, all predict."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layer of the projector."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    prototypes: int = 3000
    """Prototypes, at least 2; about three times the classes that you expect is plenty."""
    freeze_steps: int | None = None
    """Optimiser steps at the start during which the prototypes stay as they are; by default the first epoch, and no
    more than a tenth of the run."""
    temperature: float = 0.1
    """Divides the cosines of the prediction."""
    epsilon: float = 0.05
    """Smoothness of the assignment, in units of the cosine; lower it where the loss stays at log(prototypes)."""
    iterations: int = 3
    """Of Sinkhorn's algorithm."""
    queue: int = 0
    """Rows of earlier batches that are assigned beside the batch, once there are so many; 0 for none."""
    queue_after: int = 0
    """Optimiser steps before the queue begins to fill."""

    def resolve(self, context: DataContext) -> Self:
        """With the freeze; UserError without prototypes to choose from or time to learn them, or for an unfit queue."""
        if self.prototypes < 2:
            raise UserError(
                f"prototypes {self.prototypes} leave nothing to choose: take at least 2, or the 3000 of SwAV"
            )
        if self.queue:
            resolve_queue_size(self.queue, type(self).queue, context)
        freeze = context.max_initial_steps if self.freeze_steps is None else self.freeze_steps
        if freeze >= context.total_steps:
            raise UserError(
                f"freeze_steps is {freeze} and the run has {context.total_steps} steps, so the prototypes would never learn; "
                f"take {context.max_initial_steps} or leave it out"
            )
        return replace(self, freeze_steps=freeze)

    def build(self, backbone: Encoder) -> "SwAV":
        """SwAV with a fresh head and prototypes around `backbone`."""
        return SwAV(backbone, self)


class SwAV(Host):
    """Swapped prediction over prototypes, which are learnt as unit rows.

    The targets are the codes and, below them, the prototypes: whoever detaches the targets scores his queries with
    prototypes that he does not move.
    """

    cfg: SwAVConfig
    frozen: Tensor  # [] int64, steps for which the prototypes still stay as they are

    def __init__(self, backbone: Encoder, cfg: SwAVConfig) -> None:
        super().__init__(backbone, cfg)
        self.prototypes = nn.Parameter(F.normalize(2 * torch.rand(cfg.prototypes, cfg.dim) - 1, dim=1))
        self.queue = Queue(cfg.queue, dict.fromkeys(CODED, cfg.dim)) if cfg.queue else None
        self.register_buffer("frozen", torch.tensor(cfg.freeze_steps or 0))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """One pass over the V*B rows [view 1; view 2; ...]; its targets are [2*B codes; D rows of prototypes, K]."""
        features = self._look(batch.views, taps)
        z = self.head.project(features.final)
        views = z.detach().chunk(len(batch.views))
        memory = {stream: gather(view) for stream, view in zip(CODED, views, strict=False)}
        codes = [self._assign(stream, rows) for stream, rows in memory.items()]
        # A zero gradient, not none, while they are frozen: DDP waits for one. Weight decay then only shortens the rows.
        prototypes = torch.where(self.frozen > 0, self.prototypes.detach(), self.prototypes)
        targets = torch.cat([*codes, prototypes.T])
        return HostOutput((features,), (z,), (targets,), {} if self.queue is None else memory)

    def _look(self, views: tuple[Tensor, ...], taps: tuple[int, ...]) -> Features:
        """Views of one size go through the backbone together, in one scope of BatchNorm, as the authors' do."""
        stacks = [torch.cat(list(alike)) for _, alike in groupby(views, key=lambda view: view.shape[-2:])]
        seen = [self.backbone(stack, taps) for stack in stacks]
        joined = {tap: torch.cat([features.taps[tap] for features in seen]) for tap in taps}
        return Features(torch.cat([features.final for features in seen]), joined, {})

    @torch.no_grad()
    def _assign(self, stream: str, rows: Tensor) -> Tensor:
        """The codes [B K] of this process's images in a view, of which `rows` [W*B D] are everybody's."""
        scores = prototype_scores(rows, self.prototypes)
        if self.queue is None:
            return local_rows(sinkhorn(scores, self.cfg.epsilon, self.cfg.iterations))
        earlier = prototype_scores(self.queue[stream], self.prototypes)
        full = (self.queue.pushed >= self.queue.rows).expand(self.queue.rows)
        used = torch.cat([full.new_ones(len(rows)), full])
        codes = sinkhorn(torch.cat([scores, earlier]), self.cfg.epsilon, self.cfg.iterations, used)
        return local_rows(codes[: len(rows)])

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Every view [V*B D] predicts the codes of the two first views, but for its own."""
        codes, prototypes = targets.split([len(targets) - self.cfg.dim, self.cfg.dim])
        codes = codes.unflatten(0, (len(CODED), -1))
        scores = prototype_scores(queries, prototypes.T).unflatten(0, (-1, codes.shape[1]))
        return swapped_prediction(scores, codes, self.cfg.temperature)

    @torch.no_grad()
    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Gives the prototypes unit length again, counts the steps that freeze them, and fills the queue."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        self.frozen.sub_(1).clamp_(min=0)
        if self.queue is not None and step_info.step >= self.cfg.queue_after:
            enqueue_normalized(self.queue, loss.memory)
