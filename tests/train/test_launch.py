"""Settings that make no run, and the choice of device and precision."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.core.config import Json
from limbeck.train import launch as module
from limbeck.train.config import TrainConfig
from limbeck.train.launch import check_launch, check_same_run, launch
from tests.helpers.errors import raises


@pytest.mark.parametrize(
    "field", ["epochs", "batch_size", "accumulate_steps", "devices", "num_nodes", "log_every_steps"]
)
def test_counts_are_at_least_one(field: str) -> None:
    settings: dict[str, Any] = {field: 0}
    with raises("out-of-range", f"{field} is 0"):
        TrainConfig(**settings)


@pytest.mark.parametrize("warmup", [-1.0, 5.0])
def test_the_warmup_is_shorter_than_the_run(warmup: float) -> None:
    with raises("out-of-range", "warmup_epochs", warmup):
        TrainConfig(epochs=5, warmup_epochs=warmup)


def test_cuda_without_cuda_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    with raises("unusable-device", "cuda"):
        launch(TrainConfig(accelerator="cuda"))


def test_more_devices_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with raises("too-few-devices", "devices is 2"):
        launch(TrainConfig(devices=2, accelerator="cuda"))


def test_several_processes_need_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a notebook, an interactive Python or stdin there is nothing that a second process could run."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)
    with raises("no-script", "2 processes"):
        check_launch(TrainConfig(devices=2, accelerator="cpu"))
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    assert check_launch(TrainConfig(devices=1, accelerator="cpu")).type == "cpu"
    with raises("no-script", "2 processes", "devices=1"):
        check_launch(TrainConfig(devices=2, accelerator="cpu"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launch(TrainConfig(devices=2, accelerator="cpu"))


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_a_launcher_that_started_another_number_of_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Each process would train on its own, and all of them write into one folder."""
    monkeypatch.setenv(variable, "4")
    with raises("launcher-mismatch", "4 processes", "1 device(s) on 1 machine(s)"):
        launch(TrainConfig(accelerator="cpu"))


@pytest.mark.parametrize(("start", "config", "value"), [(5, {"seed": 0}, "3, 5"), (3, {"seed": 1}, "settings")])
def test_processes_that_would_mix_two_runs_are_refused(
    monkeypatch: pytest.MonkeyPatch, start: int, config: Json, value: str
) -> None:
    fabric: Any = SimpleNamespace(device=torch.device("cpu"))
    gathered: list[Tensor] = []

    def gather(rows: Tensor) -> Tensor:
        gathered.append(rows)
        return torch.cat(gathered)

    monkeypatch.setattr(module, "gather", gather)
    check_same_run(fabric, 3, {"seed": 0})
    check_same_run(fabric, 3, {"seed": 0})
    with raises("processes-differ", value):
        check_same_run(fabric, start, config)


def test_float32_is_not_rounded_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's default rounds the products of convolutions to TF32."""
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("high")
    try:
        module.set_cuda_kernels()
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)
