"""SimCLR: the candidates of a query, and BatchNorms over both views."""

import torch
from torch import Tensor, nn

from limbeck.core.types import StepInfo
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.methods.simclr import SimCLR
from tests.helpers.tiny import batch, tiny_vit

STEP = StepInfo(0, 10)


def simclr() -> SimCLR:
    torch.manual_seed(0)
    return SimCLRConfig(hidden=12, dim=8).build(tiny_vit())


def test_a_row_is_no_candidate_of_itself() -> None:
    """Its target does not matter; that of any other row does."""
    method, queries, targets = simclr(), torch.randn(6, 8), torch.randn(6, 8)
    pairs = torch.eye(6, dtype=torch.bool)
    for row in range(6):
        moved = torch.where(pairs[row][:, None], torch.randn(6, 8), targets)
        alone = queries.clone().requires_grad_(True)
        before, after = (torch.autograd.grad(method.pair_loss(alone, t), alone)[0] for t in (targets, moved))
        same = torch.isclose(before, after, rtol=0, atol=1e-7).all(dim=1)
        assert torch.equal(same, pairs[row])


def test_the_positive_is_the_other_view_of_the_image() -> None:
    """Rows are [view 1; view 2]: with unit vectors that differ between images, the loss is least for right pairs."""
    method, images = simclr(), torch.eye(8)[:3]
    right = method.pair_loss(images.repeat(2, 1), images.repeat(2, 1))
    wrong = method.pair_loss(images.repeat(2, 1), torch.cat([images, images.roll(1, 0)]))
    assert right < wrong


def test_batchnorm_runs_over_both_views_at_once() -> None:
    method = simclr()
    seen: list[Tensor] = []
    norm = next(module for module in method.head.modules() if isinstance(module, nn.BatchNorm1d))
    norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    method(batch(6), STEP)
    assert [len(rows) for rows in seen] == [12]


def test_there_is_neither_predictor_nor_ema_encoder() -> None:
    method = simclr()
    assert method.head.predictor is None
    assert method.encoder() is method.backbone
