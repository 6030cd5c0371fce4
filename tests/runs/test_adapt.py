"""`limbeck adapt`: a run that is held to its start, and whose encoder is the better of the two."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import limbeck
from limbeck.core.types import LossOutput, StepInfo
from limbeck.evaluation.adaptation import Adaptation
from limbeck.methods.anchor import Anchor
from limbeck.methods.config.anchor import AnchorConfig
from limbeck.models.config import StartConfig
from limbeck.models.encoder_io import read_encoder_config
from limbeck.runs.config import read_config
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import resolve_run
from limbeck.runs.run_length import fit_to_time
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import TrainConfig
from limbeck.train.interrupt import Interrupted
from tests.helpers.commands import Run
from tests.helpers.distill import COUNT, images
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, limbeck_run

TRAINING = TrainConfig(epochs=2, batch_size=20, eval_every_epochs=0, precision="fp32")  # 8 steps of 80 images
SMALL = AnchorConfig(hidden=16, dim=8)


@pytest.fixture
def adapt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., limbeck.Run]:
    """Adapt a small ResNet to 100 digits with labels that say nothing, unless settings differ."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    limbeck_run(tmp_path / "start", name="resnet18")
    np.savez(tmp_path / "digits.npz", images=images()[0], labels=np.arange(COUNT) % 2)

    def run(name: str = "run", **settings: Any) -> limbeck.Run:
        usual: dict[str, Any] = {"start": tmp_path / "start", "method": SMALL, "training": TRAINING}
        return limbeck.adapt(tmp_path / "digits.npz", tmp_path / name, **(usual | settings))

    return run


def equal(one: Path, other: Path) -> bool:
    left, right = (load_file(folder / "model.safetensors") for folder in (one, other))
    return left.keys() == right.keys() and all(torch.equal(tensor, right[name]) for name, tensor in left.items())


def judged(monkeypatch: pytest.MonkeyPatch, weights: Any) -> None:
    """Let the comparison end as it is told to."""
    verdict: Any = "better" if weights == "adapted" else "worse"
    found = Adaptation(verdict=verdict, weights=weights, images=20)
    monkeypatch.setattr("limbeck.evaluation.adaptation.compare_with_start", lambda *arguments: found)


def test_the_start_is_its_teacher_and_a_fifth_is_held_out(adapt: Callable[..., limbeck.Run], tmp_path: Path) -> None:
    run = adapt(optim_lr=1e-3)
    config = read_config(run.path)
    assert config.teacher is not None
    assert config.start is not None
    assert (config.teacher.name, config.teacher.val_images, config.teacher.targets) == ("start", 20, "image")
    assert (config.start.name, config.backbone.name) == (str(tmp_path / "start"), "resnet18")
    assert run.adaptation is not None
    assert (run.adaptation.images, run.adaptation.bank) == (20, 80)
    assert not equal(run / "start", run / ("encoder" if run.adaptation.weights == "adapted" else "adapted"))


def test_the_encoder_is_the_start_unless_the_adapted_weights_are_better(
    adapt: Callable[..., limbeck.Run], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    judged(monkeypatch, "start")
    run = adapt("worse")
    assert equal(run / "encoder", run / "start")
    assert not equal(run / "adapted", run / "start")
    assert read_encoder_config(run / "encoder")["provenance"]["weights"] == "start"
    assert json.loads((run / "adaptation.json").read_text())["verdict"] == "worse"
    assert "worse" in caplog.text
    judged(monkeypatch, "adapted")
    run = adapt("better")
    assert not equal(run / "encoder", run / "start")
    assert read_encoder_config(run / "encoder")["provenance"]["weights"] == "adapted"
    assert not (run / "adapted").exists()


def test_it_resumes_bit_for_bit_and_with_the_same_verdict(
    adapt: Callable[..., limbeck.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = adapt("whole")
    usual = Anchor.after_step

    def stop(self: Anchor, loss: LossOutput, step_info: StepInfo) -> None:
        usual(self, loss, step_info)
        if step_info.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Anchor, "after_step", stop)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            adapt("stopped")
    resumed = limbeck.resume(tmp_path / "stopped")
    assert resumed.adaptation == whole.adaptation is not None
    for folder in ("encoder", "start", *(["adapted"] if whole.adaptation.weights == "start" else [])):
        assert equal(resumed / folder, whole / folder)


def test_the_length_fits_the_machine_and_few_images_are_not_repeated_for_ever(tmp_path: Path) -> None:
    limbeck_run(tmp_path, name="resnet18")
    start, training = StartConfig(name=str(tmp_path)), replace(TRAINING, epochs="auto")
    request = RunRequest(source=images(), start=start, teacher=TeacherConfig(name="start"), training=training)
    setup = resolve_run(request)
    assert isinstance(setup.cfg.method, AnchorConfig)

    def epochs(seconds_per_step: float) -> float:
        measured: Any = type("Measured", (), {"seconds": seconds_per_step, "steps": 1})
        return fit_to_time(replace(setup, began=time.monotonic()), measured).cfg.training.num_epochs

    assert epochs(1e-3) == 30
    assert epochs(21.0) == pytest.approx(int(0.95 * 1200 / 21) / 4)  # a third of a step is to spare


def test_thirty_images_and_one_class_end_with_the_start(adapt: Callable[..., limbeck.Run], tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", images=images()[0][:30], labels=np.zeros(30, dtype=int))
    run = limbeck.adapt(tmp_path / "few.npz", tmp_path / "few", start=tmp_path / "start", method=SMALL, epochs=2)
    assert run.adaptation is not None
    assert (run.adaptation.images, run.adaptation.weights, run.adaptation.verdict) == (6, "start", "not better")


def test_mistakes_are_one_sentence(limbeck: Run, adapt: Callable[..., limbeck.Run], tmp_path: Path) -> None:
    data, start = tmp_path / "digits.npz", tmp_path / "start"
    wrong: list[tuple[list[str | Path], str]] = [
        ([data], "no-start"),
        ([data, "--from", tmp_path / "nowhere"], "unknown-network"),
        ([data, "--from", start, "--method", "simclr"], "no-distiller"),
        ([data, "--from", start, "--backbone", "resnet34"], "start-contradicted"),
        ([data, "--from", start, "--time", "1s", "--out", tmp_path / "short"], "time-too-short"),
        ([data, "--from", start, "--time", "1m", "--epochs", "2"], "time-and-epochs"),
    ]
    for argv, error in wrong:
        code, out, _ = limbeck("adapt", *argv, "--json")
        assert (code != 0, json.loads(out)["error"]["code"]) == (True, error)


def test_the_command_line_prints_the_evidence(limbeck: Run, adapt: Callable[..., limbeck.Run], tmp_path: Path) -> None:
    argv = ["adapt", tmp_path / "digits.npz", "--from", tmp_path / "start", "--epochs", "1", "--method.hidden", "16"]
    code, out, _ = limbeck(*argv, "--out", tmp_path / "run", "--json")
    found = json.loads(out)
    assert (code, found["adaptation"]["images"]) == (0, 20)
    code, out, _ = limbeck(*argv, "--print-config")
    config = json.loads(out)
    assert (config["training"]["batch_size"], config["optim"]["lr"]) == (64, 2e-4)
    assert config["backbone"]["mean"] == list(MEAN)


def test_a_start_is_needed_to_be_the_teacher(tmp_path: Path) -> None:
    with raises("no-start", "start", "--from"):
        limbeck.distill(images(), tmp_path / "run", teacher="start", student="resnet18", training=TRAINING)
