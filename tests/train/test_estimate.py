"""What a run costs: the arithmetic of a plan, what a run says of itself, and trying batches until one does not fit."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.train import estimate
from limbeck.train.config import TrainConfig
from limbeck.train.estimate import Plan, fits_on_gpu, largest, measure
from limbeck.train.optim import OptimConfig
from tests.helpers.toy import VIEWS, fit, noise, toy

PLAN = Plan(
    images_per_second=1234.5,
    memory=3 * 2**30,
    largest_batch=1536,
    tried=False,
    steps=9000,
    seconds=7200.0,
    store_bytes=2**30,
    run_bytes=2**29,
)
LINE = re.compile(
    r"^[\d,.]+ images/s; [\d,.]+ [KMG]iB of memory; largest batch (about )?[\d,]+ \((tried|reckoned)\); "
    r"[\d,.]+ (seconds|minutes|hours) for [\d,]+ steps; [\d,.]+ [KMG]iB of disk \(store .*, run .*\)$",
    re.M,
)


def test_a_plan_is_one_line() -> None:
    assert str(PLAN) == (
        "1,234.5 images/s; 3.0 GiB of memory; largest batch about 1,536 (reckoned); 2.0 hours for 9,000 steps; "
        "1.5 GiB of disk (store 1.0 GiB, run 512.0 MiB)"
    )
    assert LINE.match(str(PLAN))


def test_a_run_says_its_plan_once_after_its_first_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, toy())
    assert len(LINE.findall(capsys.readouterr().err)) == 1


def test_the_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes 1,000 bytes an image beside gradients and optimiser, where 100,000 are free."""
    gradients = 4 * (3 * 8 * 8 * 6 + 6)
    state = 2 * gradients + 2 * 4  # AdamW: two moments of everything, and the step of both tensors
    monkeypatch.setattr(estimate, "_used", lambda device: 5_000)
    monkeypatch.setattr(estimate, "_peak", lambda device: 5_000 + gradients + state + 8 * 1_000)
    monkeypatch.setattr(estimate, "_free", lambda device: gradients + state + 33_000)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=iter([10.0, 12.0]).__next__))
    store = Store.open(build_store(noise().images, tmp_path / "store", store_size=10).path or "")
    method = toy(norm=False)
    cfg = TrainConfig(epochs=3, batch_size=8, precision="fp32", accelerator="cpu")
    plan = measure(method, store, VIEWS, cfg, OptimConfig())
    assert plan.images_per_second == pytest.approx(4 * 8 / 2.0)
    assert plan.largest_batch == 32  # 33, to two binary digits
    assert (plan.steps, plan.seconds) == (15, pytest.approx(15 * 0.5))
    assert plan.store_bytes == sum(file.stat().st_size for file in (tmp_path / "store").iterdir())
    weights = sum(value.numel() * value.element_size() for value in method.state_dict().values())
    assert plan.run_bytes == 2 * (weights + state) + gradients


def test_batches_are_tried_until_one_does_not_fit() -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= 100

    assert largest(fits, 16, 1000) == 64
    assert tried == [32, 64, 128]
    assert largest(fits, 16, 40) == 32


def test_running_out_of_memory_is_an_answer_and_any_other_error_is_not() -> None:
    def full() -> None:
        raise torch.cuda.OutOfMemoryError("full")

    assert fits_on_gpu(lambda: None)
    assert not fits_on_gpu(full)
    with pytest.raises(ZeroDivisionError):
        fits_on_gpu(lambda: 1 // 0)
