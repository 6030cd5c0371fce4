"""SimReg: the authors' numbers, the heads, the views, the dense term."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.core.types import DataContext, StepInfo
from limbeck.data.augment.views import IMAGENET_MEAN
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.ranges import channel_ranges, range_penalty
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.methods.simreg import SimReg
from tests.helpers import laws, tiny
from tests.helpers.errors import raises
from tests.helpers.golden import GOLDEN


def test_the_authors_numbers() -> None:
    data = np.load(GOLDEN / "simreg_loss.npz")
    student = torch.from_numpy(data["student_raw"]).requires_grad_()
    loss = cosine_distance(student, torch.from_numpy(data["teacher_raw"]))
    torch.testing.assert_close(loss, torch.as_tensor(data["loss"]), rtol=0, atol=1e-10)
    expected = torch.from_numpy(data["grad_student_raw"])
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], expected, rtol=0, atol=1e-10)


def test_the_head_is_that_of_the_authors() -> None:
    """Linear, BatchNorm, ReLU, Linear, twice; the second time to the teacher's width."""
    method = tiny.build(SimRegConfig(), tiny.tiny_vit())
    assert isinstance(method, SimReg)
    layers = [(m.in_features, m.out_features) for m in method.head.modules() if isinstance(m, nn.Linear)]
    assert layers == [(16, 32), (32, 16), (16, 32), (32, 32)]
    kinds = [type(m).__name__ for m in method.head.modules() if not isinstance(m, nn.Sequential)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear"] * 2


@pytest.fixture(params=["solved", "none"])
def config(request: pytest.FixtureRequest) -> SimRegConfig:
    return SimRegConfig(head=request.param)


def test_without_trained_heads_the_laws_hold(config: SimRegConfig) -> None:
    laws.test_loss_is_a_finite_float32_scalar(config, half=False)
    laws.test_loss_is_a_finite_float32_scalar(config, half=True)
    laws.test_the_gradient_reaches_trained_parameters_alone(config)
    laws.test_forward_changes_nothing_and_after_step_updates_state(config)
    laws.test_the_order_of_the_images_does_not_matter(config)
    laws.test_the_configuration_survives_json(config)
    laws.test_state_dict_and_configuration_are_all_the_state(config)


def test_a_solved_head_learns_when_it_is_due() -> None:
    """After steps 1, 2 and 4, and then every `solve_steps` = 5: the weight is that of the ridge regression."""
    config = SimRegConfig(head="solved", solve_steps=5, moment_decay=0.5)
    method = tiny.build(config, tiny.tiny_vit())
    assert isinstance(method, SimReg)
    assert method.solved is not None
    changed, before = [], method.solved.weight.clone()
    for step in range(10):
        info, batch = StepInfo(step, 10), tiny.batch_for(config)
        batch = batch._replace(views=tuple((step + 1) * view for view in batch.views))  # another batch in every step
        method.after_step(method(batch, info), info)
        if not torch.equal(method.solved.weight, before):
            changed.append(step + 1)
        before = method.solved.weight.clone()
    assert changed == [1, 2, 4, 5, 10]


def test_the_loss_is_that_of_the_solved_head() -> None:
    config = SimRegConfig(head="solved")
    method = tiny.build(config, tiny.tiny_vit()).eval()
    assert isinstance(method, SimReg)
    batch = tiny.batch_for(config)
    expected = cosine_distance(method.embed(batch.views[0]), method.teacher(batch).vectors[0])
    torch.testing.assert_close(method(batch, tiny.STEP).total, expected)


@pytest.mark.parametrize("options", [{"ridge": 0.0}, {"solve_steps": 0}, {"moment_decay": 1.0}])
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    (name, value) = next(iter(options.items()))
    with raises("out-of-range", name, f"{value:g}"):
        SimRegConfig(**options)


@pytest.mark.parametrize("head", ["mlp", "none"])
def test_settings_of_a_solved_head_need_one(head: Literal["mlp", "none"]) -> None:
    context = DataContext(num_images=64, batch_size=8, forward_batch_size=8, num_classes=0, total_steps=8)
    for name, value in (("ridge", 3.0), ("solve_steps", 5), ("moment_decay", 0.5)):
        config = SimRegConfig(head=head, **{name: value})  # type: ignore[arg-type]
        with raises("no-effect", name.replace("_", "-"), f"{value:g}", head):
            config.resolve(context)
        assert replace(config, head="solved").resolve(context).head == "solved"


def test_student_and_teacher_get_the_same_crop() -> None:
    student, teacher = SimRegConfig().make_views(32)
    assert student.network == "student"
    assert teacher == replace(student, network="teacher", crop_of=0)
    assert student.augmentation.mean == IMAGENET_MEAN


def test_it_cannot_be_pretrained_without_a_teacher() -> None:
    with raises("teacher-needed", "simreg", "limbeck distill"):
        SimRegConfig().build(tiny.tiny_vit())


def test_the_dense_term_is_added_with_its_weight() -> None:
    torch.manual_seed(0)
    plain, dense = (tiny.build(SimRegConfig(dense_weight=weight), tiny.tiny_vit()) for weight in (0.0, 2.0))
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(dense.get_parameter(name))
    batch = tiny.batch_for(SimRegConfig())
    step_info = tiny.STEP
    loss = dense(batch, step_info)
    torch.testing.assert_close(loss.total, plain(batch, step_info).total + 2.0 * loss.terms["dense"])
    assert loss.terms["dense"] > 0
    loss.total.backward()
    assert isinstance(dense, SimReg)
    assert dense.dense_projection is not None
    assert dense.dense_projection.weight.grad is not None


def test_the_range_term_is_the_mean_over_all_depths_and_is_added() -> None:
    plain, bounded = (tiny.build(SimRegConfig(range=bound), tiny.tiny_vit()) for bound in (None, 1.1))
    plain.load_state_dict(bounded.state_dict())
    batch = tiny.batch_for(SimRegConfig())
    loss = bounded(batch, tiny.STEP)
    maps = bounded.backbone(batch.views[0], bounded.backbone.taps, feature_maps=True).feature_maps
    expected = torch.stack([range_penalty(*channel_ranges(found), 1.1) for found in maps.values()]).mean()
    torch.testing.assert_close(loss.terms["range"], expected)
    torch.testing.assert_close(loss.total, plain(batch, tiny.STEP).total + expected)


@pytest.mark.parametrize("bound", [0.5, float("nan"), float("inf")])
def test_a_range_that_no_channel_can_have_is_refused(bound: float) -> None:
    with raises("out-of-range", f"{bound:g}"):
        SimRegConfig(range=bound)
