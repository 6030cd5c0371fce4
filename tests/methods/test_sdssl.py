"""SDSSL: the layers that learn, their weight, their heads."""

import dataclasses
from collections.abc import Iterable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from limbeck.core.types import Batch, StepInfo
from limbeck.methods import HostConfig, method_config
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.sdssl import SDSSL
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.heads import Head
from tests.helpers.errors import raises
from tests.helpers.tiny import batch, batch_for, configs, tiny_vit

HALFWAY = StepInfo(5, 10)


def host(name: str = "byol") -> HostConfig:
    kind: Any = method_config(name)
    return kind(hidden=12, dim=8)


def sdssl(name: str = "byol", **settings: Any) -> SDSSL:
    torch.manual_seed(0)
    return SDSSLConfig(host=host(name), hidden=10, **settings).build(tiny_vit(depth=4))


@pytest.mark.parametrize("layer", [0, 4, 99])
def test_only_layers_before_the_last_can_learn_from_it(layer: int) -> None:
    with raises("depth-out-of-range", layer, "1 to 3"):
        sdssl(layers=(1, layer))


@pytest.mark.parametrize(("name", "alpha"), [("simclr", 0.8), ("byol", 0.8), ("mocov3", 1.0)])
def test_alpha_rises_to_the_value_of_the_release(name: str, alpha: float) -> None:
    method = sdssl(name)
    found = [method.alpha(StepInfo(step, 10)) for step in (0, 5, 10)]
    assert found == pytest.approx([0, alpha / 2, alpha])
    steps = [method.alpha(StepInfo(step, 10)) for step in range(11)]
    assert steps == sorted(steps)


def test_alpha_may_be_constant() -> None:
    method = sdssl(alpha=0.6, alpha_schedule="constant")
    assert {method.alpha(StepInfo(step, 10)) for step in range(11)} == {0.6}


def test_alpha_is_constant_where_depths_have_several_widths() -> None:
    args = {"layers": [1] * 4, "channels": [4, 8, 8, 8]}
    backbone = build_backbone(BackboneConfig(name="resnet18", image_size=32, args=args))
    steps = [StepInfo(step, 10) for step in (0, 5, 10)]
    assert {SDSSLConfig(host=host()).build(backbone).alpha(step) for step in steps} == {0.8}
    rising = SDSSLConfig(host=host(), alpha_schedule="cosine").build(backbone)
    assert [rising.alpha(step) for step in steps] == pytest.approx([0, 0.4, 0.8])


def test_alpha_weighs_the_mean_of_the_layers() -> None:
    """The total is the sum of the terms in the formula, for two layers or three."""
    for layers in ((1, 3), (1, 2, 3)):
        method = sdssl(layers=layers, alpha=0.6, alpha_schedule="constant", predictor_weight=2.0)
        loss = method(batch(), HALFWAY)
        assert set(loss.terms) == {"host", "predictor", *(f"layer{layer}" for layer in layers)}
        mean = torch.stack([loss.terms[f"layer{layer}"] for layer in layers]).mean()
        expected = loss.terms["host"] + 0.6 * mean + 2.0 * loss.terms["predictor"]
        torch.testing.assert_close(loss.total.detach(), expected)


def two_passes(method: SDSSL, data: Batch, step_info: StepInfo) -> Tensor:
    """Return the total as the authors compute it: a second pass of every predictor, over detached projections."""
    output = method.host.encode(data, method.layers)
    targets = [t.detach() for t in output.targets]

    def loss(head: Head, projections: Iterable[Tensor]) -> Tensor:
        return sum((method.host.pair_loss(head.predict(z), t) for z, t in zip(projections, targets, strict=True)), zero)

    zero = torch.zeros((), dtype=torch.float64)
    heads = {layer: cast(Head, method.heads[str(layer)]) for layer in method.layers}
    projected = {layer: [head.project(f.taps[layer]) for f in output.features] for layer, head in heads.items()}
    total = method.host.loss(output)
    total = total + method.alpha(step_info) / len(heads) * sum((loss(heads[n], z) for n, z in projected.items()), zero)
    if not method.host.has_predictor:
        return total
    alone = loss(method.host.head, (z.detach() for z in output.projections))
    alone = alone + sum((loss(heads[n], (z.detach() for z in zs)) for n, zs in projected.items()), zero)
    return total + method.cfg.predictor_weight * alone


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("name", [name for name in configs() if name.startswith("sdssl-")])
def test_one_pass_of_the_predictors_is_two(name: str, step: int) -> None:
    config = dataclasses.replace(configs()[name], predictor_weight=1.5)  # type: ignore[call-arg]
    torch.manual_seed(0)
    method = cast(SDSSL, config.build(tiny_vit()).double())
    data, trained = batch_for(config, dtype=torch.float64), [p for p in method.parameters() if p.requires_grad]
    totals = []
    for compute in (lambda *given: method(*given).total, lambda *given: two_passes(method, *given)):
        torch.manual_seed(1)
        totals.append(compute(data, StepInfo(step, 10)))
    torch.testing.assert_close(*totals, rtol=1e-12, atol=1e-12)
    for found, expected in zip(*(torch.autograd.grad(t, trained) for t in totals), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_layers_have_narrower_heads_of_their_own() -> None:
    method = sdssl()
    heads = [method.heads[str(layer)] for layer in (1, 2, 3)]
    parameters = [{id(p) for p in head.parameters()} for head in (*heads, method.host.head)]
    assert sum(map(len, parameters)) == len(set().union(*parameters))
    assert [head.projector[0].out_features for head in heads] == [10] * 3  # type: ignore[union-attr,index]
    assert method.host.head.projector[0].out_features == 12  # type: ignore[index]
    assert {head.predictor[0].out_features for head in heads} == {12}  # type: ignore[union-attr,index]


def test_the_last_layer_learns_nothing_from_the_others() -> None:
    """The layers' losses give no gradient to the blocks above them and to the host's head."""
    method = sdssl("simclr", layers=(2,), alpha=1.0, alpha_schedule="constant")
    output = method.host.encode(batch(), (2,))
    queries = method.heads["2"].project(output.features[0].taps[2])  # type: ignore[operator]
    method.host.pair_loss(queries, output.targets[0].detach()).backward()
    grads = {name: p.grad for name, p in method.backbone.named_parameters()}
    reached = grads["model.blocks.1.attn.qkv.weight"]
    assert reached is not None
    assert reached.abs().sum() > 0
    assert all(grad is None for name, grad in grads.items() if name.startswith("model.blocks.2."))
    assert all(p.grad is None for p in method.host.head.parameters())


def test_encoder_and_views_are_those_of_the_host() -> None:
    method = sdssl()
    assert method.encoder() is method.host.encoder()
    assert method.backbone is method.host.backbone
    assert dataclasses.replace(method.cfg, host=host("simclr")).views == host("simclr").views


def test_a_host_without_predictor_has_no_predictor_loss() -> None:
    method = sdssl("simclr")
    assert "predictor" not in method(batch(), HALFWAY).terms
    assert all(head.predictor is None for head in method.heads.values())
