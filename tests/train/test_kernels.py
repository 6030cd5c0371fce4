"""Kernels compute the same, and those that a clock finds to be fastest are chosen."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.data.augment.views import View
from limbeck.data.sampling import view_specs
from limbeck.methods import Method, method_config
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.train import kernel_choice
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.kernel_choice import KernelChoice, choose_kernels
from limbeck.train.kernels import Kernels, fused_attentions, set_attention, set_memory_format
from limbeck.train.step import StepRunner
from tests.helpers.tiny import SIZE, SIZES, shrink, tiny_vit
from tests.helpers.toy import noise

CROPS = view_specs([View(size=SIZE), View(size=SIZE)])
CFG = TrainConfig(batch_size=8, accelerator="cpu", epochs=1)
USUAL = Kernels(precision="bf16")
NARROW: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8]}


def tiny_cnn() -> Backbone:
    return build_backbone(BackboneConfig(name="resnet18", image_size=16, args=NARROW))


def gradient(network: Backbone, kernels: Kernels) -> Tensor:
    """Return the features of four images and the gradient of their squares, as one vector."""
    set_attention(fused_attentions(network), kernels.attention)
    set_memory_format(network, kernels.memory_format)
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=kernels.precision == "bf16"):
        final = network(images).final.float()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(final.square().mean(), learned)
    return torch.cat([final.detach().flatten(), *(part.flatten() for part in gradients)])


@pytest.mark.parametrize("build", [tiny_vit, tiny_cnn])
@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [({"attention": "plain"}, 1e-5), ({"memory_format": "contiguous"}, 1e-5), ({"precision": "bf16"}, 0.03)],
)
def test_kernels_compute_the_same(build: Callable[[], Backbone], changes: dict[str, Any], tolerance: float) -> None:
    usual = Kernels(precision="fp32")
    network = build()
    expected = gradient(network, usual)
    error = (gradient(network, replace(usual, **changes)) - expected).norm() / expected.norm()
    assert error < tolerance
    assert (error > 1e-4) == (changes.get("precision") == "bf16")  # the kernels are not those of before


def chosen(monkeypatch: pytest.MonkeyPatch, cost: Callable[[Kernels], float], cfg: TrainConfig = CFG) -> KernelChoice:
    """Choose for a ViT, on a processor with bf16 where a pass with some kernels costs so many seconds."""
    monkeypatch.setattr("limbeck.core.devices.supports_bf16", lambda kind: True)
    monkeypatch.setattr(kernel_choice._Passes, "_time", lambda self, kernels, batch: cost(kernels))
    return choose_kernels(simclr(), noise(), CROPS, cfg, OptimConfig())


def simclr() -> Method:
    method: Method = shrink(method_config("simclr")(), SIZES).build(tiny_vit())
    return method


def test_the_fastest_kernels_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    fastest = Kernels(precision="fp32", attention="plain", memory_format="contiguous")

    def cost(kernels: Kernels) -> float:
        return 2.0 - len(vars(kernels).items() & vars(fastest).items()) / 4

    found = chosen(monkeypatch, cost)
    assert (found.kernels, found.gain) == (fastest, 2.0 / 1.25)


def test_a_difference_that_load_could_make_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, lambda kernels: 1.0 if kernels == USUAL else 0.95)
    assert (found.kernels, found.gain) == (USUAL, 1.0)


def test_what_is_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: set[Kernels] = set()

    def cost(kernels: Kernels) -> float:
        tried.add(kernels)
        return 1.0

    chosen(monkeypatch, cost, replace(CFG, precision="bf16", memory_format="contiguous"))
    usual = replace(USUAL, memory_format="contiguous")
    assert tried == {usual, replace(usual, attention="plain")}


def test_measuring_leaves_the_method_and_the_random_numbers_alone() -> None:
    method, clock = simclr(), count().__next__
    before = [parameter.clone() for parameter in method.parameters()]
    state = torch.get_rng_state()
    found = choose_kernels(method, noise(), CROPS, CFG, OptimConfig(), clock=clock)
    assert found.gain == 1.0  # every pass takes a second on this clock
    assert all(map(torch.equal, before, method.parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(fused_attentions(method)) == 3


def test_a_run_takes_the_kernels_of_its_settings() -> None:
    method = simclr()
    cfg = replace(CFG, attention="plain", precision="fp32")
    StepRunner(method, noise(), CROPS, cfg, OptimConfig())
    assert not fused_attentions(method)


def test_a_compiler_that_fails_is_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no C++ compiler\nhere\n\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    method = simclr()
    StepRunner(method, noise(), CROPS, replace(CFG, compile=True), OptimConfig())
    assert len(caplog.messages) == 1
    assert caplog.text.rstrip().endswith("no C++ compiler here")
    assert not any(module._compiled_call_impl for module in method.modules())
