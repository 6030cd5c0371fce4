"""Distillation as a user runs it: any teacher, live or cached, resumed, from the command line; and what it refuses."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.methods import DistillConfig, MethodConfig, method_config, method_names
from limbeck.models.encoder_io import load
from limbeck.runs.api import distill, pretrain
from limbeck.runs.config import read_config
from limbeck.runs.resume import resume
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import OptimConfig
from limbeck.train.interrupt import Interrupted
from tests.helpers.commands import Run
from tests.helpers.distill import COUNT, CUSTOM, NARROW, STUDENT, TRAINING, Quarters, distill_digits, images, small
from tests.helpers.errors import raises
from tests.helpers.tiny import SIZES, shrink

NAMES = [name for name in method_names() if issubclass(method_config(name), DistillConfig)]
FLAT = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
DENSE = replace(small("simreg"), dense_weight=1.0)


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the stores and caches that runs build out of the user's own folder."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the test so far, and those to come."""
    caplog.set_level("INFO", "limbeck")
    return caplog.messages


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Limbeck run that serves as the teacher."""
    method: MethodConfig = shrink(method_config("simclr")(), SIZES)
    folder = tmp_path_factory.mktemp("teacher")
    np.savez(folder / "digits.npz", images=images()[0], labels=images()[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        training = replace(TRAINING, epochs=1)
        return pretrain(folder / "digits.npz", folder / "big", method=method, backbone=STUDENT, training=training)


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "encoder" / "model.safetensors")


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize("cached_views", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_with_a_live_and_a_cached_teacher(tmp_path: Path, name: str, cached_views: int) -> None:
    run = distill_digits(tmp_path / "run", replace(CUSTOM, cached_views=cached_views), method=small(name))
    assert len(column(run, "loss")) == 2
    assert load(run).dim == 8
    config = read_config(run)
    assert config.teacher is not None
    assert (len(config.teacher.digest), config.teacher.val_images) == (64, 10)
    state = torch.load(run / "checkpoint.ckpt", weights_only=True)["method"]
    assert not [key for key in state if "mix" in key]


def test_a_cached_teacher_gives_the_student_of_a_live_one(tmp_path: Path) -> None:
    """In one epoch both get the first draw; cached features differ by the rounding of float16."""
    training = replace(TRAINING, epochs=1)
    live, cached = (
        weights(distill_digits(tmp_path / str(views), replace(CUSTOM, cached_views=views), training=training))
        for views in (0, 1)
    )
    for name, value in live.items():
        torch.testing.assert_close(cached[name].float(), value.float(), rtol=0, atol=5e-3)
    assert not all(torch.equal(cached[name], value) for name, value in live.items())


def test_the_student_becomes_similar_to_the_teacher(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    training = replace(TRAINING, epochs=15, eval_every_epochs=15)
    teacher, optim = replace(CUSTOM, val_images=20), OptimConfig(lr=0.02)
    run = distill_digits(tmp_path / "run", teacher, training=training, optim=optim)
    agreement = column(run, "neighbor_agreement")[-1]
    assert agreement > 0.62
    values = ("20 images", f"{100 * agreement:.1f} %", "52.6 %")
    assert [value for value in values if value not in caplog.messages[-1]] == []
    losses = column(run, "loss")
    assert losses[-1] < 0.7 * losses[0]


def test_held_out_images_are_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = capture_training(monkeypatch)
    distill_digits(tmp_path / "run", replace(CUSTOM, val_images=30), method=small("bingo"))
    sampling = given["sampling"]
    assert len(sampling.indices) == 70
    assert set(sampling.bags[sampling.indices].ravel()) <= set(sampling.indices)
    assert (sampling.bags[sampling.indices] != sampling.indices[:, None]).all()


def capture_training(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the training by a function that records its keyword arguments."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("limbeck.runs.training.train", lambda *args, **settings: given.update(settings))
    monkeypatch.setattr("limbeck.runs.training.evaluate_encoder", lambda *args: {})
    return given


@pytest.mark.parametrize("max_similarity", [None, 0.999])
def test_copies_are_partners_unless_they_are_dropped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    max_similarity: float | None,
) -> None:
    given = capture_training(monkeypatch)
    twice = np.concatenate([images()[0][:50]] * 2)
    bingo: Any = small("bingo")
    method = replace(bingo, bag_size=1, max_similarity=max_similarity)
    teacher = replace(CUSTOM, val_images=0)
    settings: dict[str, Any] = {"student": STUDENT, "training": TRAINING, "teacher_module": Quarters()}
    distill(twice, tmp_path / "run", teacher=teacher, method=method, **settings)
    copied = (given["sampling"].bags[:, 0] - np.arange(100)) % 100 == 50
    assert copied.all() if max_similarity is None else not copied.any()
    assert ("--method.max-similarity" in caplog.text) == (max_similarity is None)


@pytest.mark.parametrize("cached_views", [0, 2])
def test_a_stopped_run_resumes_to_the_same_numbers(
    tmp_path: Path, big: Path, monkeypatch: pytest.MonkeyPatch, cached_views: int
) -> None:
    """The store is on disk, and the resumed run loads the teacher again."""
    np.savez(tmp_path / "digits.npz", images=images()[0], labels=images()[1])
    teacher = TeacherConfig(name=str(big), cached_views=cached_views)
    settings: dict[str, Any] = {"teacher": teacher, "method": small("bingo"), "student": STUDENT, "training": TRAINING}
    distill(tmp_path / "digits.npz", tmp_path / "whole", **settings)

    def stop(*args: Any) -> dict[str, float]:
        import signal

        signal.raise_signal(signal.SIGTERM)
        return {}

    with monkeypatch.context() as patched:
        patched.setattr("limbeck.train.loop.evaluate_encoder", stop)
        with pytest.raises(Interrupted):
            distill(tmp_path / "digits.npz", tmp_path / "stopped", **settings)
    resume(tmp_path / "stopped")
    whole, resumed = (weights(tmp_path / name) for name in ("whole", "stopped"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_resumes_only_with_its_own_teacher(tmp_path: Path) -> None:
    run = distill_digits(tmp_path / "run")
    resume(run, teacher_module=Quarters())
    with raises("teacher-changed", "custom"):
        resume(run, teacher_module=Quarters(seed=1))


@pytest.mark.parametrize(
    ("settings", "code", "value"),
    [
        ({"teacher": replace(CUSTOM, targets="image"), "method": DENSE}, "no-feature-maps", "--teacher.targets"),
        ({"teacher_module": FLAT, "method": DENSE}, "no-feature-maps", "custom"),
        ({"teacher": replace(CUSTOM, val_images=COUNT)}, "val-images-too-many", "val_images is 100"),
        ({"teacher": replace(CUSTOM, mean=None)}, "unknown-preprocessing", "--teacher.mean"),
        ({"method": method_config("simclr")()}, "no-distiller", "limbeck pretrain --method simclr"),
    ],
)
def test_mistakes_are_reported_before_anything_is_trained(
    tmp_path: Path, settings: dict[str, Any], code: str, value: str
) -> None:
    with raises(code, value):
        distill_digits(tmp_path / "run", **({"teacher": CUSTOM} | settings))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_finds_its_teacher_from_any_folder(big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(big.parent)
    settings: dict[str, Any] = {"student": STUDENT, "training": replace(TRAINING, epochs=1)}
    run = distill(images()[0], tmp_path / "run", teacher=big.name, **settings)
    teacher = read_config(run).teacher
    assert teacher is not None
    assert teacher.name == str(big)
    monkeypatch.chdir(tmp_path)
    resume(run)


def test_a_cache_of_another_teacher_is_refused(tmp_path: Path) -> None:
    cached = replace(CUSTOM, cached_views=1, cache=str(tmp_path / "cache"))
    distill_digits(tmp_path / "first", cached)
    with raises("other-cache", tmp_path / "cache"):
        distill_digits(tmp_path / "second", cached, teacher_module=Quarters(seed=1))


def test_features_that_depend_on_the_batch_are_not_cached() -> None:
    with raises("teacher-not-cacheable", "cached-views to 0"):
        replace(CUSTOM, cached_views=1, batch_statistics=True)


def test_a_student_larger_than_its_teacher_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    distill_digits(tmp_path / "run", training=replace(TRAINING, epochs=1))
    assert len([r for r in caplog.records if r.levelname == "WARNING" and " M parameters" in r.message]) == 1


def test_the_command_line_distills(limbeck: Run, big: Path, tmp_path: Path) -> None:
    pixels, labels = images()
    np.savez(tmp_path / "digits.npz", images=pixels, labels=labels)
    words = f"distill {tmp_path}/digits.npz --teacher {big} --student resnet18 --method compress"
    flags = ["--student.args", json.dumps(NARROW), "--epochs", "1", "--batch-size", "20", "--method.queue-size", "40"]
    code, out, err = limbeck(*words.split(), *flags, "--teacher.val-images", "20", "--out", tmp_path / "run")
    assert (code, out.strip()) == (0, str(tmp_path / "run")), err
    values = ("compress: temperature set to", "8 of 79 other images", "held-out fidelity (20 images)")
    assert [value for value in values if value not in err] == []
    assert limbeck("distill", tmp_path / "digits.npz")[0] != 0
