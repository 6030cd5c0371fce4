"""SimReg: the authors' numbers, the head, the views, the dense term."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from limbeck.data.augment.views import IMAGENET_MEAN
from limbeck.losses.alignment import cosine_distance
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.methods.simreg import SimReg
from tests.helpers import tiny
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
