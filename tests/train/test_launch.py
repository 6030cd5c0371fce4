"""Settings that make no run, and the choice of precision."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.core.config import Json
from limbeck.core.errors import UserError
from limbeck.train import launch as module
from limbeck.train.config import TrainConfig
from limbeck.train.launch import check_alike, choose_accelerator, choose_precision, launch


@pytest.mark.parametrize(
    "field", ["epochs", "batch_size", "accumulate_steps", "devices", "num_nodes", "log_every_steps"]
)
def test_counts_are_at_least_one(field: str) -> None:
    settings: dict[str, Any] = {field: 0}
    with pytest.raises(UserError, match=f"{field} is 0"):
        TrainConfig(**settings)


@pytest.mark.parametrize("warmup", [-1.0, 5.0])
def test_warm_up_is_shorter_than_the_run(warmup: float) -> None:
    with pytest.raises(UserError, match=f"warmup_epochs is {warmup}"):
        TrainConfig(epochs=5, warmup_epochs=warmup)


def test_cuda_without_cuda_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="finds no CUDA device"):
        choose_accelerator(TrainConfig(accelerator="cuda"))
    assert choose_accelerator(TrainConfig()) == "cpu"


def test_more_devices_than_there_are_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"devices is 2 and torch finds 1 CUDA"):
        launch(TrainConfig(devices=2, accelerator="cuda"))


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch, has_it: bool, expected: str) -> None:
    monkeypatch.setattr(module, "supports_bf16", lambda kind: has_it)
    assert choose_precision(TrainConfig(), "cpu") == expected
    assert choose_precision(TrainConfig(precision="fp32"), "cpu") == "fp32"


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_a_launcher_that_started_another_number_of_processes_is_said(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Each process would train on its own, and all of them write into one folder."""
    monkeypatch.setenv(variable, "4")
    with pytest.raises(UserError, match=r"4 processes were started for 1 device\(s\) on 1 machine\(s\)"):
        launch(TrainConfig(accelerator="cpu"))


@pytest.mark.parametrize(
    ("start", "config", "complaint"),
    [
        (5, {"seed": 0}, r"from different steps \(3, 5\): give all machines the same run folder"),
        (3, {"seed": 1}, "started with different settings"),
    ],
)
def test_processes_that_would_mix_two_runs_are_refused(
    monkeypatch: pytest.MonkeyPatch, start: int, config: Json, complaint: str
) -> None:
    fabric: Any = SimpleNamespace(device=torch.device("cpu"))
    seen: list[Tensor] = []
    monkeypatch.setattr(module, "gather", lambda ours: seen.append(ours) or torch.cat(seen))
    check_alike(fabric, 3, {"seed": 0})
    check_alike(fabric, 3, {"seed": 0})
    with pytest.raises(UserError, match=complaint):
        check_alike(fabric, start, config)
