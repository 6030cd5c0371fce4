"""BINGO: contrastive distillation over a queue, with a positive from the teacher's nearest neighbors of an image.

Xu, Fang, Zhang, Xie, Wang, Dai, Xiong and Tian, *Bag of Instances Aggregation Boosts Self-supervised Distillation*,
ICLR 2022 (arXiv 2107.01691). Defaults are those of haohang96/bingo, whose objective is richer than the paper's.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributions import Beta

from limbeck.core.distributed import broadcast_from_rank0, gather
from limbeck.core.types import Batch, LossOutput, StepInfo, TeacherOutput
from limbeck.losses.contrastive import info_nce_per_positive
from limbeck.methods.base import QueueDistiller
from limbeck.methods.config.bingo import BINGOConfig
from limbeck.models.heads import mlp


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
    drawn = torch.cat([Beta(alpha, alpha, validate_args=False).sample()[None], torch.rand(2)])
    drawn = drawn.to(first.device, non_blocking=True)
    share, y, x = broadcast_from_rank0(drawn)
    inside = box(share, (y * height).long(), (x * width).long(), height, width)
    return torch.where(inside, second, first), 1 - inside.to(first.dtype).mean()


def box(
    share: Float[Tensor, ""], y: Int[Tensor, ""], x: Int[Tensor, ""], height: int, width: int
) -> Bool[Tensor, "H W"]:
    """Return a random box that leaves about `share` of an image uncovered; nothing waits for the device.

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
