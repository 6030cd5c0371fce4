"""BINGO: find the teacher's vectors of an image and of one of its bag, those that the teacher finds most like it.

Xu, Fang, Zhang, Xie, Wang, Dai, Xiong and Tian, *Bag of Instances Aggregation Boosts Self-supervised Distillation*,
ICLR 2022 (arXiv 2107.01691). Defaults are those of haohang96/bingo, whose objective is richer than the paper's.
"""

from dataclasses import dataclass, replace
from math import isqrt
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.distributions import Beta

from limbeck.core.distributed import broadcast_from_rank0, gather
from limbeck.core.errors import UserError
from limbeck.core.types import BagSpec, Batch, DataContext, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import ViewSpec
from limbeck.losses.contrastive import info_nce_each
from limbeck.methods.base import MethodCard, QueueDistillConfig, QueueDistiller, Teacher, teacher_view
from limbeck.models.heads import mlp


@dataclass(frozen=True, kw_only=True)
class BINGOConfig(QueueDistillConfig):
    """Pulls the images of a bag together around the teacher's vectors: strongest where few labels come later."""

    name: ClassVar[str] = "bingo"
    card: ClassVar[MethodCard] = MethodCard(
        summary="find the teacher's vectors of an image and of one like it among older images",
        state="a frozen teacher, a queue and bags",
        use_when="clean images, patience, and a few labels later; not video or duplicates",
        cost=3.8,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    hidden: int = 2048
    """Width of the head's hidden layer."""
    temperature: float | None = None
    """Divides the cosines; None: as suits the teacher (the authors: 0.2, and 0.12 for a SwAV teacher)."""
    bag: Literal["knn", "kmeans"] = "knn"
    """Bags of nearest neighbours, or of the clusters of a spherical k-means."""
    bag_size: int = 5
    """Images of a bag beside its own; by default no more than a tenth of the square root of the store."""
    max_similarity: float | None = None
    """Leave neighbours of a larger cosine out of bags: 0.999 for copies and frames of a film."""
    inter: float = 0.5
    """Weight of the teacher's vector of the other image of the bag; that of the image's own is the rest."""
    warmup: float = 0.055
    """Share of the run in which the image's own alone counts (11 of 200 epochs)."""
    symmetric: bool = True
    """Anchor and mate each answer to both vectors; otherwise both to the anchor's, as in the paper."""
    cutmix: float = 2.0
    """Parameter of the Beta distribution that boxes are drawn from, in which the mate replaces the anchor; 0: none, as
    in the paper."""

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Anchor and mate as view 1 shows them to the student, and as view 2 shows them to the teacher."""
        student, teacher = views[0], teacher_view(views[1], 1)
        seen = (teacher, replace(teacher, image="partner")) if self.needs_partner else (teacher,)
        return student, replace(student, image="partner", crop_of=0), *seen

    @property
    def needs_partner(self) -> bool:
        """Whether the teacher is to look at the mate."""
        return self.symmetric or self.cutmix > 0

    def bags(self) -> BagSpec:
        """Which images are mates."""
        return BagSpec(self.bag, self.bag_size, self.max_similarity)

    def resolve(self, context: DataContext) -> Self:
        """With a queue and bags that suit the store."""
        if self.cutmix < 0 or not 0 <= self.inter <= 1:
            raise UserError(f"cutmix {self.cutmix} is to be 0 or more and inter {self.inter} between 0 and 1")
        size = self.bag_size
        if size == type(self).bag_size:
            size = min(size, max(1, isqrt(context.num_images) // 10))
        if not 1 <= size < context.num_images:
            raise UserError(
                f"a bag of {size:,} images (bag_size) cannot be had from a store of {context.num_images:,}; take 1 to "
                f"{context.num_images - 1:,} ({max(1, isqrt(context.num_images) // 10)} is a good start)"
            )
        return replace(super().resolve(context), bag_size=size)

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "BINGO":
        """BINGO with a fresh head around `backbone`."""
        return BINGO(backbone, self, teacher)


class BINGO(QueueDistiller):
    """Softmaxes over [one of the teacher's vectors | the queue of its vectors of older anchors].

    The network sees anchors, mates and their mixtures one after the other, each a scope of BatchNorm. With ce(z, k) the
    cross-entropy of finding k, and (own, other) the weights,

        anchor = own ce(z_a, k_a) + other ce(z_a, k_m)        bag = 2 own ce(z_a, k_a) + 2 other ce(z_m, k_a)
        mate   = own ce(z_m, k_m) + other ce(z_m, k_a)        mix = share ce(z_x, k_a) + (1 - share) ce(z_x, k_m)

    and the total is the mean of anchor, mate and mix; where not symmetric, of bag and mix; mix only with CutMix.
    """

    cfg: BINGOConfig

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Two linear layers."""
        return mlp([dim, self.cfg.hidden, teacher_dim], norm=False, bias=True)

    def weights(self, step_info: StepInfo) -> tuple[float, float]:
        """Of the image's own vector, and of that of the other image of the bag."""
        other = 0.0 if step_info.progress < self.cfg.warmup else self.cfg.inter
        return 1 - other, other

    def distillation_loss(
        self, embedding: Tensor, batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Terms: what the total is the mean of. The anchors' vectors alone are remembered."""
        anchor, mate = batch.views[:2]
        keys = teacher_output.vectors[: 1 + self.cfg.needs_partner]
        terms = self.compare(embedding, self.embed(mate), keys, step_info)
        if self.cfg.cutmix:
            mixed, share = cutmix(anchor, mate, self.cfg.cutmix)
            by_anchor, by_mate = self.find(self.embed(mixed), keys)
            terms["mix"] = share * by_anchor + (1 - share) * by_mate
        total = torch.stack(list(terms.values())).mean()
        return LossOutput(total, {name: term.detach() for name, term in terms.items()}, {"teacher": gather(keys[0])})

    def compare(self, anchor: Tensor, mate: Tensor, keys: tuple[Tensor, ...], step_info: StepInfo) -> dict[str, Tensor]:
        """The terms without CutMix, from the student's embeddings [B D] and the teacher's vectors."""
        own, other = self.weights(step_info)
        if not self.cfg.symmetric:
            (intra,), (inter,) = self.find(anchor, keys[:1]), self.find(mate, keys[:1])
            return {"bag": 2 * own * intra + 2 * other * inter}
        (anchor_own, anchor_other), (mate_other, mate_own) = self.find(anchor, keys), self.find(mate, keys)
        return {"anchor": own * anchor_own + other * anchor_other, "mate": own * mate_own + other * mate_other}

    def find(self, student: Tensor, keys: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropies of embeddings [B D] with each of the keys, [B D], against the queue: one per key."""
        return info_nce_each(student, self.queue["teacher"], torch.stack(keys), self.temperature)


def cutmix(first: Tensor, second: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Images [B C H W] with a box of `second` in `first`, and the share of the pixels that `first` keeps, [].

    One box for the batches of all processes; its size is drawn from Beta(alpha, alpha), its centre uniformly.
    """
    height, width = first.shape[-2:]
    drawn = torch.cat([Beta(alpha, alpha).sample()[None], torch.rand(2)]).to(first.device)
    kept, y, x = broadcast_from_rank0(drawn)
    inside = box(kept, (y * height).long(), (x * width).long(), height, width)
    return torch.where(inside, second, first), 1 - inside.to(first.dtype).mean()


def box(kept: Tensor, y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Where a box lies that leaves about the share `kept` of an image: bool [H W]; nothing waits for the device.

    Args:
        kept: [], in [0, 1]: the sides are sqrt(1 - kept) of the image's, rounded down to even numbers.
        y, x: [] int64, the pixel at its centre; what lies outside the image is cut off.
        height, width: H and W of the image.

    Source: CutMix (Yun et al., ICCV 2019), as in haohang96/bingo `utils.rand_bbox`.
    """
    side = (1 - kept).sqrt()
    rows, columns = (
        (torch.arange(length, device=kept.device) - center) for length, center in ((height, y), (width, x))
    )
    half_height, half_width = ((side * length).long() // 2 for length in (height, width))
    return ((rows >= -half_height) & (rows < half_height))[:, None] & (
        (columns >= -half_width) & (columns < half_width)
    )
