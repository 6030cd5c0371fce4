"""Masked self-distillation equals the authors' steps; masks, targets, momentum, options, and a collapse is seen."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.core.types import Batch, BlockOutput, DataContext, Features, StepInfo, TokenEncoder
from limbeck.methods.config.cgh import CGHConfig
from limbeck.methods.config.masked import MaskedConfig
from limbeck.methods.masked import Masked
from limbeck.metrics.representation import effective_rank, normalized_std
from limbeck.train.health.rules import collapsed
from tests.helpers.errors import raises
from tests.helpers.golden import Golden, assert_allclose
from tests.helpers.tiny import FlatConfig, tiny_vit
from tests.helpers.tiny_series import series_batch, tiny_encoder

CONTEXT = DataContext(num_images=40, batch_size=8, forward_batch_size=8)
RTOL, ATOL = 1e-7, 1e-9


class Pointwise(TokenEncoder):
    """The authors' network: residual blocks z + tanh(W z + b), and an output block that changes nothing."""

    def __init__(self, numbers: Golden, who: str) -> None:
        super().__init__()
        count = sum(key.startswith(f"{who}_blocks") and key.endswith("weight") for key in numbers)
        self.cfg, self.dim = FlatConfig(), numbers["x"].shape[2]
        self.token_dim, self.taps = self.dim, tuple(range(1, count + 2))
        self.tap_dims = self.map_dims = dict.fromkeys(self.taps, self.dim)
        self.blocks = nn.ModuleList(nn.Linear(self.dim, self.dim) for _ in range(count)).double()
        for i, block in enumerate(self.blocks):
            for name, parameter in block.named_parameters():
                parameter.data = torch.from_numpy(numbers[f"{who}_blocks.{i}.fc.{name}"])

    def present(self, x: Tensor) -> Tensor:
        return x[:, :, 0] == x[:, :, 0]

    def tokens(self, x: Tensor) -> Tensor:
        return x

    def encode_tokens(self, tokens: Tensor) -> tuple[BlockOutput, ...]:
        found = []
        for block in self.blocks:
            branch = torch.tanh(block(tokens))
            tokens = tokens + branch
            found.append(BlockOutput(branch, tokens))
        return (*found, BlockOutput(tokens, tokens))

    def forward(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        return Features(self.encode_tokens(x)[-1].output.amax(1), {}, {})

    def cut(self, depth: int) -> Self:
        return self


@pytest.mark.parametrize("name", ["masked_instance", "masked_layer"])
def test_a_step_has_the_numbers_of_the_authors(golden: Callable[[str], Golden], name: str) -> None:
    numbers = golden(name)
    flags = str(numbers["flags"])
    cfg = MaskedConfig(
        target_blocks=int(numbers["top_k"]),
        target_of="branch",
        target_norm="instance" if "instance" in flags else "layer",
        mean_norm=flags.endswith("layer_norm_targets"),
        beta=float(numbers["beta"]),
    )
    method = Masked(Pointwise(numbers, "student"), cfg).double()
    with torch.no_grad():
        method.mask_token.copy_(torch.from_numpy(numbers["mask_emb"]))
        method.head.weight.copy_(torch.from_numpy(numbers["final_w"]))
        method.head.bias.copy_(torch.from_numpy(numbers["final_b"]))
    method.ema_encoder.module = Pointwise(numbers, "teacher").requires_grad_(False)
    x, mask = torch.from_numpy(numbers["x"]).requires_grad_(), torch.from_numpy(numbers["mask"])
    loss = method(Batch((x,), torch.arange(len(x)), masks=(mask,)), StepInfo(1, 20))
    assert_allclose(method.targets(x)[mask], numbers["targets"], RTOL, ATOL)
    assert_allclose(loss.total * int(numbers["sample_size"]), numbers["loss_sum"], RTOL, ATOL)
    assert_allclose(loss.terms["target_std"], numbers["target_std"], RTOL, ATOL)
    assert_allclose(loss.terms["prediction_std"], numbers["prediction_std"], RTOL, ATOL)
    (loss.total * int(numbers["sample_size"])).backward()
    found = {"x": x.grad, "mask_emb": method.mask_token.grad, "final_w": method.head.weight.grad}
    found |= {
        f"student_blocks.{i}.fc.{part}": parameter.grad
        for i, block in enumerate(method.backbone.get_submodule("blocks").children())
        for part, parameter in block.named_parameters()
    }
    for key, gradient in found.items():
        assert_allclose(gradient, numbers[f"grad_{key}"], RTOL, ATOL, name=key)


def test_the_ema_encoder_follows_as_the_authors_does(golden: Callable[[str], Golden]) -> None:
    numbers = golden("masked_instance")
    method = Masked(Pointwise(numbers, "student"), MaskedConfig()).double()
    method.ema_encoder.module = Pointwise(numbers, "teacher").requires_grad_(False)
    loss: Any = None
    for step, decay in enumerate(numbers["ema_decays"], start=1):
        assert method.cfg.momentum(step / 20) == pytest.approx(float(decay))
        with torch.no_grad():
            for parameter in method.backbone.parameters():
                parameter.copy_(0.9 * parameter + 0.05)
        method.after_step(loss, StepInfo(step, 20))
    for name, parameter in method.target_encoder().named_parameters():
        _, i, part = name.split(".")
        assert_allclose(parameter, numbers[f"ema_after_blocks.{i}.fc.{part}"], RTOL, ATOL, name=name)


def masked(**changes: Any) -> Masked:
    torch.manual_seed(0)
    return MaskedConfig(target_blocks=2, **changes).build(tiny_encoder()).double()


def test_missing_and_hidden_steps_carry_no_gradient_and_no_value() -> None:
    method, batch = masked(), series_batch(MaskedConfig(), 8, torch.float64)
    view, hidden = batch.views[0], batch.masks[0]
    missing = view.isnan().any(dim=2)
    assert missing.any()
    assert not (hidden & missing).any()
    total = method(batch, StepInfo(0, 1)).total
    assert total.isfinite()
    student = method.backbone.tokens(view.requires_grad_())
    assert not student[missing].any()
    student.square().sum().backward()
    assert view.grad is not None
    assert not view.grad.nan_to_num()[missing].any()
    changed = view.detach().clone()
    changed[missing] = torch.nan
    assert torch.equal(method(batch._replace(views=(changed,)), StepInfo(0, 1)).total, total)


def test_the_evaluated_encoder_is_the_trained_one_unless_asked() -> None:
    assert masked().encoder() is not masked().target_encoder()
    method = masked(evaluate_ema=True)
    assert method.encoder() is method.target_encoder()


def test_a_constant_encoder_is_seen_as_a_collapse() -> None:
    method, batch = masked(), series_batch(MaskedConfig(), 16, torch.float64)
    with torch.no_grad():
        healthy = method.embed(batch.views[0])
        method.head.weight.zero_()
        dead = method.embed(batch.views[0])
        terms = method(batch, StepInfo(0, 1)).terms
    readings = [
        {"embedding_rank": float(effective_rank(x)), "embedding_std": float(normalized_std(x))} for x in (healthy, dead)
    ]
    assert collapsed(readings[1])
    assert readings[1]["embedding_std"] < readings[0]["embedding_std"]
    assert terms["prediction_std"].item() == pytest.approx(1e-3)


def test_options_that_make_no_sense_are_refused() -> None:
    with raises("out-of-range", "mask_share", 0):
        MaskedConfig(mask_share=0).resolve(CONTEXT)
    with raises("out-of-range", "target_blocks", 0):
        MaskedConfig(target_blocks=0).resolve(CONTEXT)
    with raises("depth-out-of-range", 4, 3):
        MaskedConfig(target_blocks=4).check_depths((1, 2, 3, 4))
    with raises("method-not-for-data", "masked", "vit"):
        MaskedConfig().build(tiny_vit())
    with raises("method-not-for-data", "masked", "series"):
        MaskedConfig().check_modality("images")
    with raises("method-not-for-data", "cgh", "hypercolumn"):
        CGHConfig().check_modality("series")
    assert np.isclose(MaskedConfig().momentum(1.0), 0.9995)
