"""Barlow Twins: steps against loops and the authors' numbers; one matrix for both directions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from limbeck.core.types import Batch
from limbeck.methods.barlow import Barlow
from limbeck.methods.config.barlow import BarlowConfig
from tests.helpers import loops
from tests.helpers.descent import assert_same_steps, assert_steps_of_the_authors
from tests.helpers.golden import Golden
from tests.helpers.loss_loops import barlow_loops
from tests.helpers.tiny import Flat, batch, tiny_vit


def barlow() -> Barlow:
    torch.manual_seed(0)
    return BarlowConfig(hidden=12, dim=5, off_diagonal_weight=0.1).build(tiny_vit()).double()


def definition(method: Barlow, given: Batch, step: int) -> Tensor:
    state = dict(method.head.projector.named_parameters())
    features = [loops.vit_layers(method.backbone.get_submodule("model"), view)[-1] for view in given.views]
    first, second = (loops.mlp(h, state, trailing_norm=False) for h in features)
    return barlow_loops(first, second, 0.1)


def test_steps_equal_the_definition() -> None:
    assert_same_steps(barlow(), definition, [batch(6, torch.float64, seed) for seed in range(3)])


def test_steps_of_the_authors(golden: Callable[[str], Golden]) -> None:
    g = golden("barlow")
    method = BarlowConfig(hidden=8, dim=5).build(Flat(nn.Linear(6, 7), 7)).double()
    names = {"backbone.": "backbone.model.", "projector.": "head.projector."}
    batches = [Batch(tuple(torch.from_numpy(pair)), torch.arange(9)) for pair in g["x"]]
    assert_steps_of_the_authors(method, g, names, batches)


@pytest.mark.parametrize("name", ["backbone", "head"])
def test_one_matrix_has_the_gradient_of_both_directions(name: str) -> None:
    method = barlow()
    output = method.encode(batch(6, torch.float64))
    both = [method.pair_loss(z, t) for z, t in zip(output.projections, output.targets, strict=True)]
    losses = method.loss(output), torch.stack(both).sum()
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    trained = [p for p in method.get_submodule(name).parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(loss, trained, retain_graph=True) for loss in losses]
    for pair in zip(*gradients, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-12)
