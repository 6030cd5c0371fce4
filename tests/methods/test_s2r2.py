"""S2R2: the rows that a view ranks, the positives among them, the number of views."""

import dataclasses

import torch
from torch import nn

from limbeck.core.types import Batch, DataContext, StepInfo
from limbeck.methods.config.s2r2 import S2R2Config
from limbeck.methods.s2r2 import S2R2
from tests.helpers.errors import raises
from tests.helpers.loss_loops import smooth_ap_loops
from tests.helpers.tiny import tiny_vit, views_of

STEP = StepInfo(3, 10)
IMAGES, VIEWS = 4, 3


def s2r2() -> S2R2:
    torch.manual_seed(0)
    return S2R2Config(hidden=12, dim=8, num_views=VIEWS).build(tiny_vit()).double()


def batch() -> Batch:
    return Batch(views_of(IMAGES, [16] * VIEWS, torch.float64, seed=0), torch.arange(IMAGES))


def test_equals_its_definition() -> None:
    """Row v * B + i is view v of image i."""
    method, rows = s2r2(), range(IMAGES * VIEWS)
    z = method.head.project(method.backbone(torch.cat(batch().views)).final)
    ranked = [[j for j in rows if j != i] for i in rows]
    positives = [[j for j in seen if j % IMAGES == i % IMAGES] for i, seen in enumerate(ranked)]
    expected = smooth_ap_loops(z, z, positives, ranked, 0.05)
    total = method(batch(), STEP).total
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(torch.autograd.grad(total, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-12)


def test_two_views_have_one_positive_and_its_rank_counts() -> None:
    """At a low temperature, a query with its positive in third place has a precision of a third."""
    method = S2R2Config(hidden=12, dim=8, num_views=2, temperature=1e-4).build(tiny_vit())
    angles = torch.tensor([0.0, 45.0, 92.0, 20.0, 130.0, 171.0]).deg2rad()  # 3 to 5 are partners of 0 to 2
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    ranks = []
    for i, angle in enumerate(angles.tolist()):
        distance = (angles - angle).abs()
        ranks.append(int((distance <= distance[(i + 3) % 6]).sum()) - 1)
    assert max(ranks) >= 3
    expected = 1 - sum(1 / r for r in ranks) / 6
    assert abs(method.pair_loss(rows, rows).item() - expected) < 1e-4


def test_queries_of_another_layer_rank_the_last_layers_gallery() -> None:
    method = s2r2()
    queries, gallery = torch.randn(2, IMAGES * VIEWS, 8, dtype=torch.float64)
    ranked = [[j for j in range(IMAGES * VIEWS) if j != i] for i in range(IMAGES * VIEWS)]
    positives = [[j for j in seen if j % IMAGES == i % IMAGES] for i, seen in enumerate(ranked)]
    torch.testing.assert_close(
        method.pair_loss(queries, gallery), smooth_ap_loops(queries, gallery, positives, ranked, 0.05)
    )


def test_batchnorm_runs_over_all_views_at_once() -> None:
    method = s2r2()
    seen: list[int] = []
    norm = next(module for module in method.head.modules() if isinstance(module, nn.BatchNorm1d))
    norm.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    method(batch(), STEP)
    assert seen == [IMAGES * VIEWS]


def test_the_pair_of_the_preset_is_repeated() -> None:
    first, second, third = dataclasses.replace(S2R2Config(views="byol"), num_views=3).make_views(96)
    assert first == third != second


def test_invalid_options_are_refused() -> None:
    with raises("too-few-views", "num_views", 1, 2):
        S2R2Config(num_views=1).resolve(DataContext(num_images=100, batch_size=8, forward_batch_size=8))
    with raises("wrong-number-of-views", "multicrop", 8, "simclr"):
        S2R2Config(views="multicrop").make_views(96)
