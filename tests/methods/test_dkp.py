"""Distill-DKP: the cosine of maps, its step against its definition, its views, whole runs, and what it refuses."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from limbeck.data.loader import Loader
from limbeck.data.store.store import Store
from limbeck.keypoints.config import DetectorConfig
from limbeck.keypoints.encoder_io import load_detector
from limbeck.keypoints.network import Detector
from limbeck.losses.alignment import map_cosine_distance
from limbeck.methods.config.autolink import AutoLinkConfig
from limbeck.methods.config.dkp import DKPConfig
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.golden import GOLDEN, assert_allclose
from tests.helpers.tiny import CONTEXT, SIZE, STEP, batch_for, detector_folder

CPU = torch.device("cpu")


@pytest.mark.parametrize(("over", "name"), [("channels", "channel"), ("map", "flatten")])
def test_the_distance_of_maps_is_that_of_loops(over: Any, name: str) -> None:
    numbers = np.load(GOLDEN / "feature_cosine.npz")
    student, teacher = (torch.from_numpy(numbers[key]).requires_grad_() for key in ("student", "teacher"))
    loss = map_cosine_distance(student, teacher.detach(), over)
    loss.backward()
    assert_allclose(loss, numbers[f"loss_{name}"])
    assert_allclose(student.grad, numbers[f"grad_{name}"], 1e-7, 1e-9)


@pytest.mark.parametrize("depth", [4, 5, 6])
def test_a_step_is_its_definition(depth: int) -> None:
    torch.manual_seed(0)
    config = DKPConfig(teacher=detector_folder(), weight=0.3, depth=depth, start="random")
    detector = Detector(DetectorConfig(keypoints=4, image_size=SIZE, width=4))
    method, batch = config.build(detector).double(), batch_for(config, 3, torch.float64)
    teacher, (image, companion) = load_detector(detector_folder()).double(), batch.views
    own = method.backbone(image, (depth,), feature_maps=True).feature_maps[depth]
    other = teacher(companion, (depth,), feature_maps=True).feature_maps[depth].detach()
    cosines = [
        own[i, :, r, c] @ other[i, :, r, c] / (own[i, :, r, c].norm() * other[i, :, r, c].norm())
        for i in range(3)
        for r in range(own.shape[2])
        for c in range(own.shape[3])
    ]
    repaint = AutoLinkConfig.build(config, method.backbone)
    repaint.decoder = method.decoder
    expected = repaint(batch._replace(views=(image,)), STEP).total + 0.3 * (1 - torch.stack(cosines)).mean()
    loss = method(batch, STEP).total
    torch.testing.assert_close(loss, expected)
    trained = list(method.parameters())
    for pair in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(*pair)


def test_the_student_starts_as_its_teacher_which_no_checkpoint_holds() -> None:
    detector = Detector(DetectorConfig(keypoints=4, image_size=SIZE, width=4))
    method, teacher = DKPConfig(teacher=detector_folder()).build(detector), load_detector(detector_folder())
    for name, value in teacher.state_dict().items():
        assert torch.equal(method.backbone.state_dict()[name], value)
    autolink = AutoLinkConfig().build(Detector(detector.cfg))
    assert method.state_dict().keys() == autolink.state_dict().keys()
    method.train()
    assert not method._teacher[0].training


def test_the_companion_has_the_crop_and_the_flip_of_its_image() -> None:
    """A companion that equals its image gives an equal view, in two processes as in one; no color is changed."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 24, 24, 3), np.uint8)
    store = Store.from_arrays(pixels)
    store = replace(store, companion=store)
    views = DKPConfig(teacher="-").make_views(SIZE)
    strong = replace(views[0].augmentation, scale=(0.3, 0.6))
    views = (replace(views[0], augmentation=strong), replace(views[1], augmentation=strong))
    whole = next(Loader(store, views, 12, seed=3, device=CPU).batches(0, 1))
    assert torch.equal(*whole.views)
    assert len(whole.masks) == 1
    parts = [next(Loader(store, views, 12, seed=3, device=CPU, rank=r, world_size=2).batches(0, 1)) for r in (0, 1)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.views[1], whole.views[1][rank::2])
    with raises("no-companion"):
        Loader(Store.from_arrays(pixels), views, 12, seed=3, device=CPU)


def test_what_does_not_fit_is_refused() -> None:
    with raises("teacher-needed", "--method.teacher"):
        DKPConfig().resolve(CONTEXT)
    for config in (DKPConfig(teacher="-", weight=-1.0), DKPConfig(teacher="-", depth=3)):
        with raises("out-of-range"):
            config.resolve(CONTEXT)
    cases: list[tuple[Any, dict[str, Any]]] = [("teacher", {"keypoints": 5}), ("random", {"width": 8})]
    for start, changes in cases:
        detector = Detector(replace(DetectorConfig(keypoints=4, image_size=SIZE, width=4), **changes))
        config = DKPConfig(teacher=detector_folder(), start=start)
        with raises("teacher-does-not-fit", *changes.values()):
            config.build(detector)


def write(folder: Path, count: int, names: str = "{}.png") -> None:
    """Write images of a square before noise, and their depth in millimeters."""
    rng = np.random.default_rng(0)
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
    rows = []
    for number in range(count):
        row, column = (int(place) for place in rng.integers(0, 24, 2))
        depth, pixels = np.full((32, 32), 3000, np.uint16), rng.integers(0, 255, (32, 32, 3), np.uint8)
        depth[row : row + 8, column : column + 8], pixels[row : row + 8, column : column + 8] = 1500, 200
        Image.fromarray(pixels).save(folder / "rgb" / names.format(number))
        Image.fromarray(depth).save(folder / "depth" / names.format(number))
        rows.append([names.format(number), column + 4, row + 4])
    with (folder / "rgb" / "keypoints.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "square_x", "square_y"], *rows])


def test_a_student_is_trained_resumed_and_evaluated(limbeck: Run, tmp_path: Path) -> None:
    write(tmp_path / "data", 24)
    rgb, stored = tmp_path / "data" / "rgb", tmp_path / "stored"
    network = ["--backbone.keypoints", 2, "--backbone.image-size", 32, "--backbone.width", 4]
    training = [*network, "--batch-size", 8, "--epochs", 1]
    student = ["pretrain", rgb, "--method", "dkp", "--companion", stored, "--method.teacher", tmp_path / "teacher"]
    for command in (
        ["store", tmp_path / "data" / "depth", stored, "--depth", "distance"],
        ["pretrain", stored, "--out", tmp_path / "teacher", "--method", "autolink", *training],
        [*student, "--out", tmp_path / "student", *training],
        ["resume", tmp_path / "student"],
        ["evaluate", tmp_path / "student", "--train", rgb, "--test", rgb, "--no-latency"],
        ["report", tmp_path / "student", "--out", tmp_path / "report.html"],
    ):
        code, _, err = limbeck(*command)
        assert code == 0, err
    assert "--companion" in (tmp_path / "report.html").read_text(encoding="utf-8")
    for arguments, value in (
        (["pretrain", rgb, "--method", "dkp", "--method.teacher", tmp_path / "teacher"], "--companion"),
        (["pretrain", rgb, "--method", "autolink", "--companion", stored], "dkp"),
        (["pretrain", rgb, "--method", "dkp", "--companion", stored], "--method.teacher"),
    ):
        code, _, err = limbeck(*arguments, "--out", tmp_path / "refused", *training)
        assert code in (1, 2)
        assert value in err
    weights, former = tmp_path / "teacher" / "encoder" / "model.safetensors", load_detector(tmp_path / "teacher")
    save_file({name: value + 1 for name, value in former.state_dict().items()}, weights)
    (tmp_path / "student" / "checkpoint.ckpt").unlink()
    code, _, err = limbeck("resume", tmp_path / "student")
    assert code == 1
    assert json.loads((tmp_path / "student" / "config.json").read_text())["method"]["teacher_digest"][:12] in err
    save_file(former.state_dict(), weights)
    assert limbeck("resume", tmp_path / "student")[0] == 0
    Image.fromarray(np.full((32, 32), 900, np.uint16)).save(tmp_path / "data" / "depth" / "0.png")
    limbeck("store", tmp_path / "data" / "depth", stored, "--depth", "distance")
    code, _, err = limbeck("resume", tmp_path / "student")
    assert code == 1
    assert "changed" in err
