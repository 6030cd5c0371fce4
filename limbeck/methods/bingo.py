"""BINGO: contrastive distillation over a queue, with a positive from the teacher's nearest neighbors of an image.

Xu, Fang, Zhang, Xie, Wang, Dai, Xiong and Tian, *Bag of Instances Aggregation Boosts Self-supervised Distillation*,
ICLR 2022 (arXiv 2107.01691). Defaults are those of haohang96/bingo, whose objective is richer than the paper's.
"""

from dataclasses import dataclass, replace
from math import isqrt
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributions import Beta

from limbeck.core.distributed import broadcast_from_rank0, gather
from limbeck.core.errors import UserError
from limbeck.core.types import BagSpec, Batch, DataContext, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import ViewSpec
from limbeck.losses.contrastive import info_nce_per_positive
from limbeck.methods.base import MethodCard, QueueDistillConfig, QueueDistiller, Teacher, teacher_view
from limbeck.models.heads import mlp


@dataclass(frozen=True, kw_only=True)
class BINGOConfig(QueueDistillConfig):
    """BINGO: pull the images of a bag together around the teacher's vectors; strongest where few labels come later."""

    name: ClassVar[str] = "bingo"
    card: ClassVar[MethodCard] = MethodCard(
        summary="contrast with the teacher's vectors of the image and of a partner from its bag",
        state="teacher, queue, bags",
        use_when="clean images, patience, and a few labels later; not video or duplicates",
        cost=3.8,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    hidden: int = 2048
    """Width of the head's hidden layer."""
    temperature: float | None = None
    """Divides the cosines; None: chosen for the teacher (the authors: 0.2, and 0.12 for a SwAV teacher)."""
    bag_kind: Literal["knn", "kmeans"] = "knn"
    """Bags of nearest neighbors, or of the clusters of a spherical k-means."""
    bag_size: int = 5
    """Images of a bag besides its own; by default at most a tenth of the square root of the store."""
    max_similarity: float | None = None
    """Leave neighbors of a larger cosine out of bags: 0.999 for copies and frames of a film."""
    bag_weight: float = 0.5
    """Weight of the teacher's vector of the other image of the bag; that of the image itself has the rest."""
    warmup_fraction: float = 0.055
    """Fraction of the run in which only the vector of the image itself counts (11 of 200 epochs)."""
    symmetric: bool = True
    """Compare image and partner each with both vectors; otherwise both with the image's, as in the paper."""
    cutmix_alpha: float = 2.0
    """Parameter of the Beta distribution of the boxes in which the partner replaces the image; 0: no CutMix, as in the
    paper."""

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Return image and partner under view 1 for the student, and under view 2 for the teacher."""
        student, teacher = views[0], teacher_view(views[1], 1)
        of_teacher = (teacher, replace(teacher, image="partner")) if self.needs_partner else (teacher,)
        return student, replace(student, image="partner", crop_of=0), *of_teacher

    @property
    def needs_partner(self) -> bool:
        """Whether the teacher's vector of the partner is needed."""
        return self.symmetric or self.cutmix_alpha > 0

    def bag_spec(self) -> BagSpec:
        """Return how partners are found."""
        return BagSpec(self.bag_kind, self.bag_size, self.max_similarity)

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration with a queue and bags that suit the store."""
        if self.cutmix_alpha < 0:
            message = f"cutmix_alpha is {self.cutmix_alpha}: take 0 for no CutMix, or more"
            raise UserError(message, code="cutmix-alpha-out-of-range")
        if not 0 <= self.bag_weight <= 1:
            raise UserError(f"bag_weight is {self.bag_weight}: take 0 to 1", code="bag-weight-out-of-range")
        return replace(super().resolve(context), bag_size=self._resolve_bag_size(context.num_images))

    def _resolve_bag_size(self, images: int) -> int:
        suggested = max(1, isqrt(images) // 10)
        size = min(self.bag_size, suggested) if self.bag_size == type(self).bag_size else self.bag_size
        if not 1 <= size < images:
            message = f"bag_size {size:,} does not fit a store of {images:,} images; take 1 to {images - 1:,}"
            raise UserError(f"{message} ({suggested} is a good start)", code="bag-size-out-of-range")
        return size

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "BINGO":
        """Build BINGO with a new head around `backbone`."""
        return BINGO(backbone, self, teacher)


class BINGO(QueueDistiller):
    """InfoNCE against [one of the teacher's vectors | the queue of its vectors of earlier images].

    The network processes images, partners and their mixtures one after the other, each a scope of BatchNorm. With
    ce(z, k) the cross-entropy of identifying k, index a for the image (anchor) and p for its partner,

        anchor  = (1 - w) ce(z_a, k_a) + w ce(z_a, k_p)     bag = 2 (1 - w) ce(z_a, k_a) + 2 w ce(z_p, k_a)
        partner = (1 - w) ce(z_p, k_p) + w ce(z_p, k_a)     mix = share ce(z_x, k_a) + (1 - share) ce(z_x, k_p)

    where w is `bag_weight`, and 0 during the warm-up. The total is the mean of anchor, partner and mix; if not
    symmetric, of bag and mix; mix only with CutMix.
    """

    cfg: BINGOConfig

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build two linear layers."""
        return mlp([dim, self.cfg.hidden, teacher_dim], norm=False, bias=True)

    def bag_weight(self, step_info: StepInfo) -> float:
        """Return the weight of the teacher's vector of the other image of the bag at this step."""
        return 0.0 if step_info.progress < self.cfg.warmup_fraction else self.cfg.bag_weight

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute the terms, of which the total is the mean; the teacher's vectors of the images are enqueued."""
        anchor, partner = batch.views[:2]
        keys = teacher_output.vectors[: 1 + self.cfg.needs_partner]
        terms = self.compare(embedding, self.embed(partner), keys, self.bag_weight(step_info))
        if self.cfg.cutmix_alpha:
            mixed, share = cutmix(anchor, partner, self.cfg.cutmix_alpha)
            by_anchor, by_partner = self.cross_entropies(self.embed(mixed), keys)
            terms["mix"] = share * by_anchor + (1 - share) * by_partner
        total = torch.stack(list(terms.values())).mean()
        return LossOutput(total, {name: term.detach() for name, term in terms.items()}, {"teacher": gather(keys[0])})

    def compare(
        self,
        anchor: Float[Tensor, "B D"],
        partner: Float[Tensor, "B D"],
        keys: tuple[Float[Tensor, "B D"], ...],
        weight: float,
    ) -> dict[str, Tensor]:
        """Return the terms without CutMix, from the student's embeddings and the teacher's vectors."""
        rest = 1 - weight
        if not self.cfg.symmetric:
            (intra,), (inter,) = self.cross_entropies(anchor, keys[:1]), self.cross_entropies(partner, keys[:1])
            return {"bag": 2 * rest * intra + 2 * weight * inter}
        anchor_a, anchor_p = self.cross_entropies(anchor, keys)
        partner_a, partner_p = self.cross_entropies(partner, keys)
        return {"anchor": rest * anchor_a + weight * anchor_p, "partner": rest * partner_p + weight * partner_a}

    def cross_entropies(
        self, student: Float[Tensor, "B D"], keys: tuple[Float[Tensor, "B D"], ...]
    ) -> Float[Tensor, " keys"]:
        """Return one cross-entropy for each of the keys against the queue."""
        return info_nce_per_positive(student, self.queue["teacher"], torch.stack(keys), self.temperature)


def cutmix(
    first: Float[Tensor, "B C H W"], second: Float[Tensor, "B C H W"], alpha: float
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, ""]]:
    """Return images with a box of `second` in `first`, and the share of the pixels that come from `first`.

    There is one box for the batches of all processes; its size is drawn from Beta(alpha, alpha), its center uniformly.
    """
    height, width = first.shape[-2:]
    drawn = torch.cat([Beta(alpha, alpha).sample()[None], torch.rand(2)]).to(first.device)
    share, y, x = broadcast_from_rank0(drawn)
    inside = box(share, (y * height).long(), (x * width).long(), height, width)
    return torch.where(inside, second, first), 1 - inside.to(first.dtype).mean()


def box(
    share: Float[Tensor, ""], y: Int[Tensor, ""], x: Int[Tensor, ""], height: int, width: int
) -> Bool[Tensor, "H W"]:
    """Return where a box lies that leaves about `share` of an image uncovered; nothing waits for the device.

    Args:
        share: in [0, 1]; the sides are sqrt(1 - share) of the image's, rounded down to even numbers.
        y, x: int64 pixel at its center; what lies outside the image is cut off.
        height, width: H and W of the image.

    Source: CutMix (Yun et al., ICCV 2019), as in haohang96/bingo `utils.rand_bbox`.
    """
    side = (1 - share).sqrt()
    rows, columns = (
        (torch.arange(length, device=share.device) - center) for length, center in ((height, y), (width, x))
    )
    half_height, half_width = ((side * length).long() // 2 for length in (height, width))
    return ((rows >= -half_height) & (rows < half_height))[:, None] & (
        (columns >= -half_width) & (columns < half_width)
    )
