"""Losses on assignments to prototypes, predicted from another view (SwAV, DINO)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def prototype_scores(embeddings: Float[Tensor, "B D"], prototypes: Float[Tensor, "Q D"]) -> Float[Tensor, "B Q"]:
    """Return the cosine of every embedding with every prototype.

    Args:
        embeddings: rows of any length.
        prototypes: unit rows. They are not normalized here, so their gradient is that of the product alone.
    """
    return F.normalize(embeddings, dim=1) @ prototypes.T


@torch.no_grad()
@full_precision
def sinkhorn(
    scores: Float[Tensor, "B Q"], epsilon: float, iterations: int, used: Bool[Tensor, " B"] | None = None
) -> Float[Tensor, "B Q"]:
    """Return codes: soft assignments of rows to prototypes, balanced so that all prototypes get about the same mass.

    Sinkhorn-Knopp on exp(scores / epsilon): divide the columns, then the rows, by their sums, `iterations` times. It
    runs on logarithms, so no epsilon overflows, and without gradient. The result does not depend on the order of rows.

    Args:
        scores: rows of all images that share the prototypes: those of all processes, and of a queue if there is one.
        epsilon: smoothness in units of the scores; a larger value is smoother.
        iterations: at least 1.
        used: rows that take part (None: all); the codes of the other rows are zero.

    Returns:
        Codes whose rows sum to 1.

    Source: SwAV (Caron et al., NeurIPS 2020, eq. 3 to 5; facebookresearch/swav 06b1b7c, `distributed_sinkhorn`).
    """
    logits = scores / epsilon
    unused = torch.zeros(len(scores), 1, dtype=torch.bool, device=scores.device) if used is None else ~used[:, None]
    weights = rows = torch.zeros_like(logits[:, :1]).masked_fill(unused, -torch.inf)
    for _ in range(iterations):
        columns = -torch.logsumexp(logits + rows, dim=0, keepdim=True)
        rows = weights - torch.logsumexp(logits + columns, dim=1, keepdim=True)
    return F.softmax(logits + columns, dim=1).masked_fill(unused, 0)


@torch.no_grad()
@full_precision
def sharpen(
    scores: Float[Tensor, "*rows Q"], center: Float[Tensor, " Q"], temperature: float
) -> Float[Tensor, "*rows Q"]:
    """Return the softmax of centered scores at a low temperature, without gradient.

    Source: DINO (Caron et al., ICCV 2021, section 3.1; facebookresearch/dino 7c446df, `DINOLoss`).
    """
    return F.softmax((scores - center) / temperature, dim=-1)


@full_precision
def swapped_prediction(
    scores: Float[Tensor, "V B Q"], codes: Float[Tensor, "coded B Q"], temperature: float
) -> Float[Tensor, ""]:
    """Return the cross-entropy of each view's prediction with the codes of every other view that has codes.

    Args:
        scores: of all views; those with codes come first.
        codes: rows that sum to 1, of at most V views.
        temperature: divides the scores.

    Returns:
        mean over c of  mean over v != c of  -mean over i of  sum over k of codes_cik log softmax(scores_vi / t)_k.

    Source: SwAV (as for `sinkhorn`, eq. 2 and 6); DINO (as for `sharpen`, eq. 3).
    """
    coded, views, images = len(codes), *scores.shape[:2]
    log = F.log_softmax(scores / temperature, dim=2)
    agreement = torch.einsum("cik,vik->cv", codes, log)
    return (agreement.diagonal().sum() - agreement.sum()) / (coded * (views - 1) * images)
