"""Losses that assign the images of a batch to prototypes, evenly, and predict the assignment from another view."""

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def prototype_scores(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """How well embeddings fit prototypes: cosines, as the rows of `prototypes` have unit length.

    They are not normalised here: the gradient that reaches `prototypes` is that of the product alone.

    Args:
        embeddings: [B D], any length of rows.
        prototypes: [K D], unit rows.

    Returns:
        [B K].
    """
    return F.normalize(embeddings, dim=1) @ prototypes.T


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, epsilon: float, iterations: int, used: Tensor | None = None) -> Tensor:
    """Codes: each row shared out among the prototypes, as it scores them, so that all prototypes get about as much.

    exp(scores / epsilon), whose columns and then rows are divided by their sums, `iterations` times; computed with
    logarithms, so that no epsilon overflows. Without gradient. The order of the rows is of no account.

    Args:
        scores: [B K], of all images that share the prototypes: those of all processes, and of a queue if there is one.
        epsilon: larger is smoother, in units of the scores.
        iterations: at least 1.
        used: [B] bool, the rows that take part (all of them if None); the others get codes of zeros.

    Returns:
        [B K], rows of sum 1.

    Source: SwAV (Caron et al., NeurIPS 2020, eq. 3 to 5; facebookresearch/swav 06b1b7c, `distributed_sinkhorn`).
    """
    logits = scores / epsilon
    unused = torch.zeros(len(scores), 1, dtype=torch.bool, device=scores.device) if used is None else ~used[:, None]
    weights = rows = torch.zeros_like(logits[:, :1]).masked_fill(unused, -torch.inf)
    for _ in range(iterations):
        columns = -torch.logsumexp(logits + rows, dim=0, keepdim=True)
        rows = weights - torch.logsumexp(logits + columns, dim=1, keepdim=True)
    return F.softmax(logits + columns, dim=1).masked_fill(unused, 0)


@full_precision
def swapped_prediction(scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of every view with the codes of every other view that has some.

    Args:
        scores: [V B K], of all views, those with codes first.
        codes: [C B K], rows of sum 1, C <= V.
        temperature: divides the scores.

    Returns:
        mean over c of  mean over v != c of  -mean over i of  sum over k of codes_cik log softmax(scores_vi / t)_k,  [].

    Source: SwAV, as above (eq. 2 and 6).
    """
    coded, views, images = len(codes), *scores.shape[:2]
    log = F.log_softmax(scores / temperature, dim=2)
    agreement = torch.einsum("cik,vik->cv", codes, log)
    return (agreement.diagonal().sum() - agreement.sum()) / (coded * (views - 1) * images)
