"""EMP-SSL: steps against loops and the authors' numbers; one pass of all crops; invalid options."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from limbeck.core.types import Batch, DataContext, StepInfo
from limbeck.methods.config.empssl import EMPSSLConfig
from limbeck.methods.empssl import EMPSSL
from tests.helpers import loops
from tests.helpers.descent import assert_same_steps, assert_steps_of_the_authors
from tests.helpers.errors import raises
from tests.helpers.golden import Golden
from tests.helpers.loss_loops import empssl_loops
from tests.helpers.tiny import Flat, tiny_vit, views_of

CONTEXT = DataContext(num_images=100, batch_size=8, forward_batch_size=8)


def empssl() -> EMPSSL:
    torch.manual_seed(0)
    return EMPSSLConfig(hidden=12, dim=5, invariance_weight=3.0, epsilon=0.3).build(tiny_vit()).double()


def batch(seed: int = 0) -> Batch:
    return Batch(views_of(6, [16] * 4, torch.float64, seed), torch.arange(6))


def definition(method: EMPSSL, given: Batch, step: int) -> Tensor:
    """Return the loss in loops; the head has all views in one scope of BatchNorm."""
    state = dict(method.head.projector.named_parameters())
    model = method.backbone.get_submodule("model")
    features = torch.cat([loops.vit_layers(model, view)[-1] for view in given.views])
    z = loops.mlp(features, state, trailing_norm=False)
    return empssl_loops(z.unflatten(0, (len(given.views), -1)), 3.0, 0.3)


def test_steps_equal_the_definition() -> None:
    assert_same_steps(empssl(), definition, [batch(seed) for seed in range(3)])


def test_steps_of_the_authors(golden: Callable[[str], Golden]) -> None:
    g = golden("empssl")
    method = EMPSSLConfig(hidden=8, dim=5).build(Flat(nn.Linear(6, 7), 7)).double()
    names = {"backbone.": "backbone.model.", "pre_feature.": "head.projector.", "projection.0.": "head.projector.3."}
    names |= {"projection.1.": "head.projector.4.", "projection.3.": "head.projector.6."}
    batches = [Batch(tuple(torch.from_numpy(views)), torch.arange(9)) for views in g["x"]]
    assert_steps_of_the_authors(method, g, names, batches, lr=0.001)


def test_all_crops_go_through_the_network_together() -> None:
    method = empssl()
    seen: list[int] = []
    method.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    method(batch(), StepInfo(0, 1))
    assert seen == [24]


def test_crops_are_repeated_and_at_least_two() -> None:
    views = EMPSSLConfig().make_views(32)
    assert len(views) == 20
    assert len(set(views)) == 1
    assert views[0].augmentation.scale == (0.25, 0.25)
    with raises("too-few-views", 1, 2):
        EMPSSLConfig(num_views=1).resolve(CONTEXT)


def test_an_epsilon_of_zero_is_refused() -> None:
    with raises("epsilon-out-of-range", 0, 0.2):
        EMPSSLConfig(epsilon=0).resolve(CONTEXT)
