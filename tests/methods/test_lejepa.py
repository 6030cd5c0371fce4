"""LeJEPA: steps against loops; directions that follow from seed and step; local crops; invalid options."""

from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.core.types import Batch, DataContext, LossOutput, StepInfo
from limbeck.methods.config.lejepa import LeJEPAConfig
from limbeck.methods.lejepa import LeJEPA
from tests.helpers import loops
from tests.helpers.descent import assert_same_steps
from tests.helpers.errors import raises
from tests.helpers.loss_loops import lejepa_loops
from tests.helpers.tiny import tiny_vit, views_of

NOTHING = LossOutput(torch.zeros(()), {}, {})
CONTEXT = DataContext(num_images=100, batch_size=8, forward_batch_size=8)


def lejepa(**changes: Any) -> LeJEPA:
    torch.manual_seed(0)
    settings = {"hidden": 12, "dim": 5, "num_directions": 3, "sigreg_weight": 0.2, **changes}
    return LeJEPAConfig(**settings).build(tiny_vit()).double()


def batch(seed: int = 0) -> Batch:
    """Two global crops and two local ones."""
    return Batch(views_of(6, [16, 16, 8, 8], torch.float64, seed), torch.arange(6))


def drawn(step: int, **changes: Any) -> Tensor:
    """Return the directions of a step, of a method that took the steps before it."""
    method = lejepa(**changes)
    if step:
        method.after_step(NOTHING, StepInfo(step - 1, 10))
    return method.directions.clone()


def definition(method: LeJEPA, given: Batch, step: int) -> Tensor:
    """Return the loss in loops; the head has all views in one scope of BatchNorm."""
    state = dict(method.head.projector.named_parameters())
    model = method.backbone.get_submodule("model")
    features = torch.cat([loops.vit_layers(model, view)[-1] for view in given.views])
    z = loops.mlp(features, state, trailing_norm=False)
    return lejepa_loops(z.unflatten(0, (len(given.views), -1)), drawn(step), 0.2)


def replace_directions(method: LeJEPA, given: Batch, step: int) -> None:
    method.directions.copy_(drawn(step + 1))


def test_steps_equal_the_definition() -> None:
    assert_same_steps(lejepa(), definition, [batch(seed) for seed in range(3)], replace_directions)


def test_directions_follow_from_seed_and_step_alone() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    method = LeJEPAConfig(hidden=8, dim=5, num_directions=3).build(tiny_vit())
    method.after_step(NOTHING, StepInfo(4, 10))
    assert torch.equal(method.directions, drawn(5).float())
    torch.set_rng_state(state)
    method._directions(9)
    assert torch.equal(torch.get_rng_state(), state)
    different = [drawn(0), drawn(1), drawn(2), drawn(1, direction_seed=1)]
    assert not any(torch.equal(a, b) for i, a in enumerate(different) for b in different[:i])


@pytest.mark.parametrize("dim", [4, 5])
def test_directions_are_unit_vectors_that_point_everywhere(dim: int) -> None:
    found = lejepa(dim=dim, num_directions=4000).directions
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4000, dtype=torch.float64), rtol=0, atol=1e-6)
    assert found.mean(0).abs().max() < 0.05
    torch.testing.assert_close(dim * found.T.cov(), torch.eye(dim, dtype=torch.float64), rtol=0, atol=0.1)


def test_the_gradient_flows_through_the_target() -> None:
    (target,) = lejepa().encode(batch()).targets
    assert target.requires_grad
    assert target.shape == (6, 5)


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.1])
def test_a_weight_outside_its_range_is_refused(weight: float) -> None:
    with raises("sigreg-weight-out-of-range", weight, 0.05):
        LeJEPAConfig(sigreg_weight=weight).resolve(CONTEXT)


def test_at_least_one_direction_is_needed() -> None:
    with raises("too-few-directions", 0, 1024):
        LeJEPAConfig(num_directions=0).resolve(CONTEXT)
