"""WCL against the authors' step and against loops: the graph, the gradient and the head of each term."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.core.types import Batch, StepInfo
from limbeck.methods import HostConfig
from limbeck.methods.config.wcl import WCLConfig
from limbeck.methods.wcl import WCL
from tests.helpers.errors import raises
from tests.helpers.golden import assert_allclose
from tests.helpers.loss_loops import info_nce_loops, same_component, sup_con_loops
from tests.helpers.tiny import Flat, batch, tiny_vit

STEP = StepInfo(3, 10)


def linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


def test_a_step_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """Features of two views under two linear heads: both losses, and every gradient."""
    g = golden("wcl_ws1")
    method = WCL(Flat(nn.Identity(), 7), WCLConfig(hidden=4, dim=5))
    method.instance_head, method.graph_head = (linear(torch.from_numpy(g[f"head{i}_w"])) for i in (1, 2))  # type: ignore[assignment]
    views = tuple(torch.from_numpy(g[f"x{i}"]).requires_grad_(True) for i in (1, 2))
    loss = method(Batch(views, torch.arange(16)), STEP)
    loss.total.backward()
    assert_allclose(loss.terms["instance"], g["loss_instance"], rtol=1e-9)
    assert_allclose(loss.terms["graph"], g["loss_graph"], rtol=1e-9)
    assert_allclose(loss.total.item(), g["loss"], rtol=1e-9)
    trained = {"x1": views[0], "x2": views[1], "head1": method.instance_head.get_parameter("weight")}
    trained["head2"] = method.graph_head.get_parameter("weight")
    for name, tensor in trained.items():
        assert_allclose(tensor.grad, g[f"grad_{name}"], rtol=1e-8, atol=1e-10)


def wcl(detach_keys: bool) -> WCL:
    torch.manual_seed(0)
    return WCLConfig(hidden=12, dim=8, detach_keys=detach_keys).build(tiny_vit()).double()


def components_by_hand(rows: Tensor) -> list[int]:
    """Pass the smaller label along every edge until nothing changes."""
    cosines = [[float(a @ b / (a.norm() * b.norm())) for b in rows] for a in rows]
    nearest = [max((j for j in range(len(rows)) if j != i), key=lambda j: row[j]) for i, row in enumerate(cosines)]
    labels = list(range(len(rows)))
    for _ in rows:
        for i, j in enumerate(nearest):
            labels[i] = labels[j] = min(labels[i], labels[j])
    return labels


@pytest.mark.parametrize("detach_keys", [True, False])
def test_equals_its_definition(detach_keys: bool) -> None:
    method, data = wcl(detach_keys), batch(8, torch.float64)
    h = [method.backbone(view).final for view in data.views]
    z = torch.cat([method.instance_head(x) for x in h])
    expected = info_nce_loops(z, z, torch.arange(16).roll(8), 0.1, torch.arange(16))
    views = [method.graph_head(x) for x in h]
    for view, other in (views, views[::-1]):
        positives = torch.from_numpy(same_component(torch.tensor(components_by_hand(other.detach()))))
        keys = view.detach() if detach_keys else view
        expected = expected + sup_con_loops(view, keys, positives, 0.1, torch.arange(8)) / 2
    total = method(data, STEP).total
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(torch.autograd.grad(total, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-11)


def test_a_preset_of_other_than_two_views_is_refused() -> None:
    with raises("wrong-number-of-views", "multicrop", 8, 2):
        dataclasses.replace(WCLConfig(), views="multicrop").make_views(96)


def test_no_method_can_be_built_on_it() -> None:
    with raises("not-a-host", "wcl", WCLConfig.not_a_host_reason):
        HostConfig.choose("wcl")
