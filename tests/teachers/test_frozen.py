"""A teacher is never changed, whatever is called, and its features can be trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.data.augment.apply import eval_view
from limbeck.data.store.store import Store
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, teacher_features
from limbeck.teachers.load import load_teacher
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, STD, images, limbeck_run, save_timm, timm_resnet, timm_vit

CPU = torch.device("cpu")


def resnet(folder: Path, **settings: Any) -> LoadedTeacher:
    save_timm(timm_resnet(), folder, mean=MEAN, std=STD, input_size=(3, 32, 32))
    return load_teacher(TeacherConfig(name=str(folder), **({"precision": "fp32"} | settings)))


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_no_call_changes_a_parameter_or_a_buffer(tmp_path: Path, batch_statistics: bool) -> None:
    network = resnet(tmp_path, batch_statistics=batch_statistics).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    nn.ModuleList([network]).train()
    for _ in range(3):
        network(images(8) + 5, feature_map=True)
        network(images(8) + 5, training_step=True)
    assert any("num_batches_tracked" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_batch_statistics_are_those_of_the_batch(tmp_path: Path) -> None:
    network = resnet(tmp_path, batch_statistics=True).network
    model = timm_resnet()
    model.load_state_dict({k.split("model.")[1]: v for k, v in network.state_dict().items()}, strict=False)
    with torch.no_grad():
        expected = model.train().forward_head(model.forward_features(images(8)), pre_logits=True)
    before = network(images(8)).vector
    torch.testing.assert_close(network(images(8), training_step=True).vector, expected)
    assert not torch.allclose(
        network(images(8), training_step=True).vector[:4], network(images(8)[:4], training_step=True).vector
    )
    assert torch.equal(network(images(8)).vector, before)  # outside of training steps nothing depends on the batch


def test_features_in_evaluation_mode_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    network = resnet(tmp_path).network.train()
    torch.testing.assert_close(
        network(images(8), training_step=True).vector[:4], network(images(8)[:4], training_step=True).vector
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_are_float32_and_a_backward_pass_can_save_them(tmp_path: Path, precision: str) -> None:
    network = resnet(tmp_path, precision=precision).network
    vector, places = network(images(), feature_map=True)
    assert places is not None
    assert vector.dtype == places.dtype == torch.float32
    weight = torch.ones(24, requires_grad=True)
    ((vector * weight).sum() + (places * weight[:, None, None]).sum()).backward()
    torch.testing.assert_close(weight.grad, vector.sum(dim=0) + places.sum(dim=(0, 2, 3)))


def test_the_precision_is_that_of_the_teacher(tmp_path: Path) -> None:
    exact = resnet(tmp_path).network
    rounded = load_teacher(TeacherConfig(name=str(tmp_path), precision="bf16")).network
    plain = exact(images()).vector
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact(images()).vector, plain)
    coarse = rounded(images()).vector
    assert not torch.equal(coarse, plain)
    torch.testing.assert_close(coarse, plain, rtol=0.1, atol=0.1)


def test_the_digest_covers_weights_depth_size_and_batch_statistics(tmp_path: Path) -> None:
    save_timm(timm_vit(), tmp_path / "a")
    cfg: dict[str, Any] = {"name": str(tmp_path / "a")}
    changed = timm_vit()
    save_timm(changed, tmp_path / "b")
    with torch.no_grad():
        changed.blocks[1].mlp.fc1.bias[3] += 1e-3
    save_timm(changed, tmp_path / "c")
    settings: list[dict[str, Any]] = [
        cfg,
        {**cfg, "depth": 2},
        {**cfg, "image_size": 48},
        {**cfg, "batch_statistics": True},
        {"name": str(tmp_path / "b")},
        {"name": str(tmp_path / "c")},
    ]
    digests = [load_teacher(TeacherConfig(**context)).digest for context in settings]
    assert len(set(digests)) == len(settings)
    assert load_teacher(TeacherConfig(**cfg, mean=MEAN, precision="bf16")).digest == digests[0]


def test_another_network_of_the_same_name_is_refused(tmp_path: Path) -> None:
    limbeck_run(tmp_path)
    found = load_teacher(TeacherConfig(name=str(tmp_path)))
    again = load_teacher(TeacherConfig(name=str(tmp_path), digest=found.digest))
    assert again.digest == found.digest
    limbeck_run(tmp_path)
    with raises("teacher-changed", tmp_path, found.digest[:12]):
        load_teacher(TeacherConfig(name=str(tmp_path), digest=found.digest))


class Mean(nn.Module):
    """A network that returns the mean colors of images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_features_are_those_of_central_views_in_its_own_size_and_normalization(
    tmp_path: Path, interpolation: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 40, 40, 3), np.uint8)
    store, rows = Store.from_arrays(pixels), np.array([7, 2, 5, 0, 10])
    save_timm(timm_vit(), tmp_path, mean=MEAN, std=STD, interpolation=interpolation)
    teacher = load_teacher(TeacherConfig(name=str(tmp_path), precision="fp32"))
    found = teacher_features(teacher, store, rows, device=CPU, batch_size=2)
    views = eval_view(torch.from_numpy(pixels[rows]), 32, MEAN, STD, interpolation)  # type: ignore[arg-type]
    torch.testing.assert_close(found, teacher.network(views).vector)
    other = eval_view(torch.from_numpy(pixels[rows]), 32, (0.5,) * 3, STD)
    assert not torch.allclose(found, teacher.network(other).vector)


def test_features_can_be_trained_on() -> None:
    store = Store.from_arrays(np.full((4, 8, 8, 3), 51, np.uint8))
    teacher = load_teacher(
        TeacherConfig(name="mean", image_size=8, mean=(0.0, 0.1, 0.2), std=(1.0, 0.5, 1.0)), teacher_module=Mean()
    )
    found = teacher_features(teacher, store, np.arange(4), device=CPU)
    torch.testing.assert_close(found, torch.tensor([0.2, 0.2, 0.0]).expand(4, 3), atol=1e-6, rtol=0)
    (found * torch.ones(3, requires_grad=True)).sum().backward()
