"""DINO: steps against loops and the authors' numbers; centering, sharpening, frozen prototypes, local crops."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.types import Batch, DataContext, StepInfo
from limbeck.methods.config.dino import DINOConfig
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.dino import DINO
from tests.helpers.descent import TOTAL, assert_same_steps, load, renamed
from tests.helpers.errors import raises
from tests.helpers.golden import Golden, assert_allclose
from tests.helpers.loops import vit_layers
from tests.helpers.loss_loops import prediction_loops
from tests.helpers.tiny import Flat, tiny_vit, views_of

CONTEXT = DataContext(num_images=100, batch_size=8, forward_batch_size=8)


def config(**changes: Any) -> DINOConfig:
    settings = {"hidden": 12, "dim": 8, "num_prototypes": 5, "freeze_steps": 0, "ema_momentum": 0.9, **changes}
    return DINOConfig(**settings)


def dino(**changes: Any) -> DINO:
    """Return the method with an EMA encoder that differs from the trained network."""
    torch.manual_seed(0)
    method = config(**changes).build(tiny_vit()).double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def batch(seed: int = 0) -> Batch:
    """Two global crops and two local ones."""
    return Batch(views_of(4, [16, 16, 8, 8], torch.float64, seed), torch.arange(4))


def outputs(network: nn.Module, projector: nn.Module, views: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the cosines with the prototypes, [B Q] per view; GELU is x times the normal distribution function."""
    weights = dict(projector.named_parameters())
    found = []
    for view in views:
        x = vit_layers(network.get_submodule("model"), view)[-1]
        for index in (0, 2, 4):
            x = x @ weights[f"embedding.{index}.weight"].T + weights[f"embedding.{index}.bias"]
            x = x if index == 4 else x * (1 + torch.erf(x / math.sqrt(2))) / 2
        prototypes = weights["prototypes.weight"]
        rows = [[(z @ c) / (z.norm() * c.norm()) for c in prototypes] for z in x]
        found.append(torch.stack([torch.stack(row) for row in rows]))
    return found


def definition(method: DINO, given: Batch, step: int) -> Tensor:
    ema = method.ema_encoder.module
    scores = outputs(method.backbone, method.head.projector, given.views)
    targets = [
        torch.exp((t - method.center) / 0.04) / torch.exp((t - method.center) / 0.04).sum(1, keepdim=True)
        for t in outputs(ema.backbone, ema.projector, given.views[:2])
    ]
    return prediction_loops(torch.stack(scores), torch.stack(targets).detach(), 0.1)


def update(method: DINO, given: Batch, step: int) -> None:
    """Update the center from the outputs before the EMA, then the EMA with a momentum on half a cosine."""
    ema = method.ema_encoder.module
    rows = torch.cat(outputs(ema.backbone, ema.projector, given.views[:2]))
    momentum = 1 - 0.1 * (1 + math.cos(math.pi * step / TOTAL)) / 2
    pairs = [(ema.backbone, method.backbone), (ema.projector, method.head.projector)]
    for average, source in pairs:
        for a, s in zip(average.parameters(), source.parameters(), strict=True):
            a.copy_(momentum * a + (1 - momentum) * s)
    method.center.copy_(0.9 * method.center + 0.1 * rows.mean(0))


def test_steps_equal_the_definition() -> None:
    assert_same_steps(dino(), definition, [batch(seed) for seed in range(3)], update)


class First(nn.Module):
    """A linear layer on the first six numbers: crops of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, :6])


NAMES = {
    "backbone.": "backbone.model.",
    "head.mlp.": "head.projector.embedding.",
    "head.last_layer.weight_v": "head.projector.prototypes.weight",
}


def test_steps_of_the_authors(golden: Callable[[str], Golden]) -> None:
    """Three of six steps, with frozen prototypes in the first: losses, gradients, centers, both networks."""
    g = golden("dino")
    settings = {"hidden": 8, "dim": 5, "num_prototypes": 11, "freeze_steps": 1, "ema_momentum": 0.996}
    method = DINOConfig(**settings).build(Flat(First(), 7)).double()  # type: ignore[arg-type]
    ema_names = {key: value.removeprefix("head.") for key, value in NAMES.items()}
    load(method, g, "before", NAMES)
    load(method.ema_encoder.module, g, "teacher_before", ema_names)
    for step in range(3):
        views = (*torch.from_numpy(g["global"][step]), *torch.from_numpy(g["local"][step]))
        method.zero_grad()
        loss = method(Batch(views, torch.arange(9)), StepInfo(step, 6))
        loss.total.backward()
        assert_allclose(loss.total, g["losses"][step], rtol=1e-9)
        gradients = {name: p.grad for name, p in method.named_parameters()}
        if step == 0:
            frozen = gradients.pop("head.projector.prototypes.weight")
            assert frozen is not None
            assert not frozen.any()
            expected = renamed(g, "grad", NAMES)
            del expected["head.projector.prototypes.weight"]
            for name, value in expected.items():
                assert_allclose(gradients[name], value, rtol=1e-8, atol=1e-11, name=name)
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.1 * parameter.grad)
        method.after_step(loss, StepInfo(step, 6))
        assert_allclose(method.center, g["centers"][step], rtol=1e-9, atol=1e-12)
    for module, part, names in ((method, "after", NAMES), (method.ema_encoder.module, "teacher_after", ema_names)):
        for name, value in renamed(g, part, names).items():
            assert_allclose(module.state_dict()[name], value, rtol=1e-8, atol=1e-11, name=name)


def test_crops_of_one_size_share_a_pass_and_the_ema_encoder_gets_the_global_ones() -> None:
    method = dino()
    seen: list[Tensor] = []
    for network in (method.backbone, method.ema_encoder.module.backbone):
        network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    method(batch(), StepInfo(0, 10))
    assert [tuple(x.shape) for x in seen] == [(8, 3, 16, 16), (8, 3, 8, 8), (8, 3, 16, 16)]


def test_prototypes_are_frozen_at_the_start_and_then_learn() -> None:
    method = dino(freeze_steps=2)
    weight = method.projector.prototypes.weight
    for step in range(4):
        method.zero_grad()
        loss = method(batch(), StepInfo(step, 10))
        loss.total.backward()
        assert weight.grad is not None
        assert bool(weight.grad.any()) == (step >= 2)
        method.after_step(loss, StepInfo(step, 10))


def test_a_head_starts_as_the_authors_do() -> None:
    head = DINOConfig(num_prototypes=9, hidden=500, dim=300).build(tiny_vit()).projector
    for layer in (m for m in head.embedding if isinstance(m, nn.Linear)):
        assert not layer.bias.any()
        assert 0.018 < float(layer.weight.std().detach()) < 0.022
    assert float(head.prototypes.weight.abs().max().detach()) <= 300**-0.5


def test_layers_of_sdssl_have_prototypes_of_their_own() -> None:
    torch.manual_seed(0)
    method = SDSSLConfig(host=config(), hidden=12, alpha=1.0, alpha_schedule="constant").build(tiny_vit()).double()
    loss = method(batch(), StepInfo(0, 10)).total
    loss.backward()
    weights = [p for name, p in method.named_parameters() if name.endswith("head.projector.prototypes.weight")]
    layers = [p for name, p in method.named_parameters() if ".projector.prototypes.weight" in name and "heads." in name]
    assert len(layers) == 2
    assert all(p.grad is not None and p.grad.any() for p in (*weights, *layers))


def test_the_ema_encoder_is_exported_and_embeddings_come_before_the_prototypes() -> None:
    method = dino()
    assert method.encoder() is method.ema_encoder.module.backbone
    z = method.embed(batch().views[0])
    assert z.shape == (4, 8)
    scores = F.normalize(z) @ F.normalize(method.projector.prototypes.weight).T
    torch.testing.assert_close(scores, method.head.project(method.backbone(batch().views[0]).final))


def test_invalid_options_are_refused() -> None:
    with raises("too-few-prototypes", 1, 2):
        config(num_prototypes=1).resolve(CONTEXT)
    with raises("freeze-steps-too-many", 57, 5):
        config(freeze_steps=57).resolve(CONTEXT._replace(total_steps=57))
    assert config(freeze_steps=None).resolve(CONTEXT).freeze_steps == 100 // 8
