"""A run that was stopped: its last checkpoint can be loaded, exported, evaluated and reported, and says what it is."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import limbeck
from limbeck.core.types import LossOutput, StepInfo
from limbeck.evaluation.config import EvaluateConfig
from limbeck.exports import export
from limbeck.methods import method_config
from limbeck.methods.simclr import SimCLR
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import training_stage
from limbeck.reports.page import write_report
from limbeck.train.interrupt import Interrupted
from tests.helpers.distill import NARROW, TRAINING, images
from tests.helpers.tiny import SIZES, shrink

STAGE = "step 3 of 10"


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run that a signal has stopped after the third of its ten steps."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    np.savez(tmp_path / "digits.npz", images=images()[0])
    usual = SimCLR.after_step

    def after_step(self: SimCLR, loss: LossOutput, step_info: StepInfo) -> None:
        usual(self, loss, step_info)
        if step_info.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SimCLR, "after_step", after_step)
    settings: dict[str, Any] = {"method": shrink(method_config("simclr")(), SIZES), "training": TRAINING}
    settings["backbone"] = BackboneConfig(name="resnet18", args=NARROW)
    with pytest.raises(Interrupted):
        limbeck.pretrain(tmp_path / "digits.npz", tmp_path / "run", **settings)
    monkeypatch.setattr(SimCLR, "after_step", usual)
    return tmp_path / "run"


def test_its_encoder_is_that_of_the_checkpoint_and_says_so(stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = limbeck.load(stopped).state_dict()
    saved = torch.load(stopped / "checkpoint.ckpt", weights_only=True)["method"]
    assert all(torch.equal(value, saved[f"backbone.{name}"]) for name, value in found.items())
    assert STAGE in caplog.text


def test_it_is_exported_evaluated_and_reported(stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert export(stopped, stopped.parent / "out", depth=2).depth == 2
    data, cfg = stopped.parent / "digits.npz", EvaluateConfig(linear="none", latency=False, alignment_images=20, k=5)
    assert len(limbeck.evaluate(stopped, data, data, cfg).layers) == 4
    assert caplog.text.count(STAGE) == 2
    assert STAGE in write_report([stopped], stopped.parent / "page.html").read_text()


def test_once_it_has_ended_nothing_is_said(stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    limbeck.resume(stopped)
    assert training_stage(stopped / "encoder") == ""
    limbeck.load(stopped)
    assert STAGE not in caplog.text
