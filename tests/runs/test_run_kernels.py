"""Kernels are measured for long runs only, once per machine, and a run keeps its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import limbeck
from limbeck.methods import method_config
from limbeck.models.config import BackboneConfig
from limbeck.runs import measured_kernels as module
from limbeck.runs import run_length
from limbeck.runs.config import at_place, read_config
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import resolve_run
from limbeck.runs.training import prepare_run
from limbeck.train.config import TrainConfig
from limbeck.train.estimate import CostEstimate
from limbeck.train.kernel_choice import KernelChoice
from limbeck.train.kernels import Kernels
from tests.helpers.distill import NARROW, TRAINING, images
from tests.helpers.tiny import SIZES, shrink

SIMCLR = shrink(method_config("simclr")(), SIZES)
BACKBONE = BackboneConfig(name="resnet18", args=NARROW)
OPEN = replace(TRAINING, epochs=1, eval_every_epochs=0, precision="auto", accelerator="cpu")
ESTIMATE = CostEstimate(
    images_per_second=1.0,
    memory=1,
    largest_batch=20,
    tried=False,
    steps=5,
    seconds=600.0,
    store_bytes=0,
    run_bytes=1,
)
CHOICE = KernelChoice(kernels=Kernels(precision="fp32", memory_format="contiguous"), gain=1.5)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Let every run take ten minutes; return the settings for which something was measured."""
    asked: list[TrainConfig] = []

    def choose(method: Any, store: Any, views: Any, cfg: TrainConfig, *rest: Any) -> KernelChoice:
        asked.append(cfg)
        return CHOICE

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(run_length, "estimate_cost", lambda *args, **options: ESTIMATE)
    monkeypatch.setattr(module, "choose_kernels", choose)
    return asked


def prepared(training: TrainConfig = OPEN) -> TrainConfig:
    """Return the settings with which a run would start."""
    setup = resolve_run(RunRequest(source=images(), backbone=BACKBONE, method=SIMCLR, training=training))
    return prepare_run(setup, Path())[0].cfg.training


def test_kernels_are_measured_once(measured: list[TrainConfig], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    first, second = prepared(), prepared()
    assert (first.precision, first.attention, first.memory_format) == ("fp32", "fused", "contiguous")
    assert first.measured_on
    assert first == second
    assert measured == [OPEN]
    for value in (str(CHOICE.kernels), "1.5 times"):
        assert value in caplog.text
    found = limbeck.plan(images(), backbone=BACKBONE, method=SIMCLR, training=OPEN)
    assert (found.kernels, found.kernel_gain) == (str(CHOICE.kernels), 1.5)


def test_a_run_on_another_machine_keeps_its_kernels_and_says_so(
    tmp_path: Path, measured: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "describe_machine", lambda device: "an Intel")
    recorded = prepared()
    monkeypatch.setattr("limbeck.train.kernels.describe_machine", lambda device: "an ARM")
    limbeck.pretrain(images(), tmp_path / "run", backbone=BACKBONE, method=SIMCLR, training=recorded)
    assert read_config(tmp_path / "run").training == recorded
    for value in ("an Intel", "an ARM", "--memory-format auto"):
        assert value in caplog.text
    assert len(measured) == 1
    usual = at_place(read_config(tmp_path / "run"), {"precision": "auto", "memory_format": "auto"}).training
    assert (usual.memory_format, usual.attention, usual.measured_on) == ("auto", "fused", "")


def test_nothing_is_measured_where_it_does_not_pay_or_all_is_given(
    measured: list[TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = replace(OPEN, precision="fp32", attention="fused", memory_format="channels-last")
    assert prepared(given) == given
    monkeypatch.setattr(run_length, "estimate_cost", lambda *args, **options: replace(ESTIMATE, seconds=200.0))
    assert prepared() == OPEN
    assert measured == []
