"""VICReg: steps against loops and the authors' numbers; the projector's biases; each weight by itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.core.types import Batch, StepInfo
from limbeck.methods.config.vicreg import VICRegConfig
from limbeck.methods.vicreg import VICReg
from tests.helpers import loops
from tests.helpers.descent import assert_same_steps, assert_steps_of_the_authors
from tests.helpers.golden import Golden
from tests.helpers.loss_loops import vicreg_loops
from tests.helpers.tiny import Flat, batch, tiny_vit


def vicreg(**changes: Any) -> VICReg:
    torch.manual_seed(0)
    return VICRegConfig(hidden=12, dim=5, **changes).build(tiny_vit()).double()


def embeddings(method: VICReg, given: Batch) -> list[Tensor]:
    state = dict(method.head.projector.named_parameters())
    features = [loops.vit_layers(method.backbone.get_submodule("model"), view)[-1] for view in given.views]
    return [loops.mlp(h, state, trailing_norm=False) for h in features]


def definition(method: VICReg, given: Batch, step: int) -> Tensor:
    first, second = embeddings(method, given)
    return vicreg_loops(first, second, 25, 25, 1)


def test_steps_equal_the_definition() -> None:
    assert_same_steps(vicreg(), definition, [batch(6, torch.float64, seed) for seed in range(3)], lr=0.01)


def test_steps_of_the_authors(golden: Callable[[str], Golden]) -> None:
    g = golden("vicreg")
    method = VICRegConfig(hidden=8, dim=5).build(Flat(nn.Linear(6, 7), 7)).double()
    names = {"backbone.": "backbone.model.", "projector.": "head.projector."}
    batches = [Batch(tuple(torch.from_numpy(pair)), torch.arange(9)) for pair in g["x"]]
    assert_steps_of_the_authors(method, g, names, batches, lr=0.01)


@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_each_weight_scales_its_own_term(weights: tuple[int, int, int]) -> None:
    names = ("invariance_weight", "variance_weight", "covariance_weight")
    method = vicreg(**dict(zip(names, weights, strict=True)))
    given = batch(6, torch.float64)
    first, second = embeddings(method, given)
    expected = vicreg_loops(first, second, *weights)
    torch.testing.assert_close(method(given, StepInfo(0, 1)).total, expected, rtol=1e-9, atol=1e-12)


def test_all_linear_layers_but_the_last_have_biases() -> None:
    linear = [m for m in vicreg().head.projector.modules() if isinstance(m, nn.Linear)]
    assert [m.bias is not None for m in linear] == [True, True, False]
