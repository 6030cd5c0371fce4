"""SimSiam: steps against loops and the authors' numbers, where the gradient stops, the predictor."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.core.types import Batch, StepInfo
from limbeck.methods.config.simsiam import SimSiamConfig
from limbeck.methods.simsiam import SimSiam
from tests.helpers import loops
from tests.helpers.descent import assert_same_steps, assert_steps_of_the_authors
from tests.helpers.golden import Golden
from tests.helpers.tiny import Flat, batch, tiny_vit

CONFIG = SimSiamConfig(hidden=12, dim=8, bottleneck=5)
STEP = StepInfo(0, 1)


def simsiam(**changes: Any) -> SimSiam:
    torch.manual_seed(0)
    return dataclasses.replace(CONFIG, **changes).build(tiny_vit()).double()


def definition(method: SimSiam, given: Batch, step: int) -> Tensor:
    """Return -1/2 (cos(p1, sg z2) + cos(p2, sg z1)), row by row."""
    assert method.head.predictor is not None
    state = dict(method.head.projector.named_parameters()), dict(method.head.predictor.named_parameters())
    features = [loops.vit_layers(method.backbone.get_submodule("model"), view)[-1] for view in given.views]
    z = [loops.mlp(h, state[0], trailing_norm=True) for h in features]
    p = [loops.mlp(rows, state[1], trailing_norm=False) for rows in z]
    cosines = [loops.cos(p[v][i], z[1 - v][i].detach()) for v in (0, 1) for i in range(len(z[0]))]
    return -torch.stack(cosines).mean()


def test_steps_equal_the_definition() -> None:
    assert_same_steps(simsiam(), definition, [batch(6, torch.float64, seed) for seed in range(3)])


def test_steps_of_the_authors(golden: Callable[[str], Golden]) -> None:
    g = golden("simsiam")
    method = SimSiamConfig(hidden=7, dim=5, bottleneck=4).build(Flat(nn.Linear(6, 7), 7)).double()
    names = {"encoder.body.": "backbone.model.", "encoder.fc.": "head.projector.", "predictor.": "head.predictor."}
    del g["before/encoder.fc.6.bias"], g["after/encoder.fc.6.bias"]  # 0 and frozen: a BatchNorm follows
    batches = [Batch(tuple(torch.from_numpy(pair)), torch.arange(9)) for pair in g["x"]]
    assert_steps_of_the_authors(method, g, names, batches)


def test_the_loss_is_minus_one_for_perfect_predictions() -> None:
    rows = torch.randn(5, 8)
    torch.testing.assert_close(2 * simsiam().pair_loss(3 * rows, rows), torch.tensor(-1.0))


def test_no_gradient_flows_into_the_targets() -> None:
    output = simsiam().encode(batch(dtype=torch.float64))
    assert not any(target.requires_grad for target in output.targets)
    assert torch.equal(output.targets[0], output.projections[1])


@pytest.mark.parametrize("trailing_norm", [True, False])
def test_the_predictor_is_narrow_and_ends_in_a_bias(trailing_norm: bool) -> None:
    head = simsiam(trailing_norm=trailing_norm).head
    assert head.predictor is not None
    linear = [m for m in head.predictor.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features, m.bias is not None) for m in linear] == [(8, 5, False), (5, 8, True)]
    assert isinstance(head.projector[-1], nn.BatchNorm1d) == trailing_norm  # type: ignore[index]
