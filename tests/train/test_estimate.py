"""The cost of a run: its arithmetic, the line in the log, and trying batches until one does not fit."""

import copy
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.train import estimate, memory, timing
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.estimate import CostEstimate, CostEstimator, estimate_cost, largest_that_fits
from limbeck.train.memory import fits_in_memory
from limbeck.train.step import StepRunner
from tests.helpers.toy import VIEWS, Net, Toy, fit, noise, toy

ESTIMATE = CostEstimate(
    images_per_second=1234.5,
    memory=3 * 2**30,
    largest_batch=1536,
    tried=False,
    steps=9000,
    seconds=7200.0,
    store_bytes=2**30,
    run_bytes=2**29,
)


def test_an_estimate_is_one_line_with_every_number() -> None:
    values = (
        "1,234.5 images/s",
        "3.2 GB",
        "about 1,536 (extrapolated)",
        "2 h 0 min",
        "9,000 steps",
        "1.1 GB",
        "536.9 MB",
    )
    assert [value for value in values if value not in str(ESTIMATE)] == []
    assert "1,536 (tried)" in str(replace(ESTIMATE, tried=True))
    assert "\n" not in str(ESTIMATE)


def test_a_run_logs_its_cost_once_after_its_first_steps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    fit(tmp_path, toy())
    assert len([message for message in caplog.messages if message.startswith("measured cost: ")]) == 1


def test_processes_share_the_time_and_the_batch() -> None:
    found = ESTIMATE.with_processes(4, images=5000, steps=1000)
    assert (found.images_per_second, found.seconds, found.largest_batch, found.steps) == (4938.0, 800.0, 5000, 1000)


def arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, int, int]:
    """Return a store, and the bytes of gradients and optimizer; a step takes 1,000 bytes per image."""
    gradients = 4 * (3 * 8 * 8 * 6 + 6)
    state = 2 * gradients + 2 * 4  # AdamW: two moments of everything, and the step of both tensors
    monkeypatch.setattr(memory, "used_memory", lambda device: 5_000)
    monkeypatch.setattr(memory, "free_memory", lambda device: gradients + state + 33_000)
    monkeypatch.setattr(estimate, "peak_memory", lambda device: 5_000 + gradients + state + 8 * 1_000)
    return Store.open(build_store(noise().images, tmp_path / "store", store_size=10).path or ""), gradients, state


CFG = TrainConfig(epochs=3, batch_size=8, precision="fp32", accelerator="cpu")


def test_the_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A step takes 1,000 bytes per image besides gradients and optimizer, and there is room for 33 images."""
    caplog.set_level("INFO", "limbeck")
    store, gradients, state = arithmetic(tmp_path, monkeypatch)
    monkeypatch.setattr(timing, "count_activations", lambda module: nullcontext({1: 6_000, 2: 2_000}))
    times = iter(range(100))
    method = toy(norm=False)
    found = estimate_cost(method, store, VIEWS, CFG, OptimConfig(), budget=1000, clock=lambda: float(next(times)))
    assert found.images_per_second == pytest.approx(8 / 4)  # four parts of a second each
    assert found.largest_batch == 32  # 33, to two binary digits
    assert found.memory == 5_000 + gradients + state + 8_000
    assert found.steps == 15
    assert found.seconds == pytest.approx(15 * 4)
    assert found.store_bytes == sum(file.stat().st_size for file in (tmp_path / "store").iterdir())
    weights = sum(value.numel() * value.element_size() for value in method.state_dict().values())
    assert found.run_bytes == 2 * (weights + state) + gradients
    assert [line.split()[0] for line in caplog.messages[-5:]] == ["timed", "views", "forward", "backward", "update"]


@pytest.mark.parametrize(("batch_size", "warnings"), [(32, 0), (64, 1)])
def test_a_plan_from_few_images_says_so(caplog: pytest.LogCaptureFixture, batch_size: int, warnings: int) -> None:
    """On a clock that moves on by 100 seconds at every reading, four images are timed."""
    cfg = replace(CFG, batch_size=batch_size)
    estimate_cost(toy(), noise(64), VIEWS, cfg, OptimConfig(), clock=count(0, 100).__next__)
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(found) == warnings
    assert all(str(number) in message.split() for message in found for number in (4, batch_size))


def test_a_run_is_measured_on_its_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, *_ = arithmetic(tmp_path, monkeypatch)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=iter([10.0, 12.0]).__next__))
    runner = StepRunner(toy(norm=False), store, VIEWS, CFG, OptimConfig())
    estimator, found = CostEstimator(runner), None
    with closing(runner.loader.batches(0, 5)) as batches:
        for step in range(5):
            assert found is None
            runner.train_step(batches, step)
            found = estimator.after_step(step + 1)
    assert found is not None
    assert found.images_per_second == pytest.approx(4 * 8 / 2.0)
    assert (found.largest_batch, found.steps) == (32, 15)


RESIZED = tuple(replace(view, small=replace(view.augmentation, size=4)) for view in VIEWS)
"""Views of 8 pixels, and of 4 at first."""


class Pooled(Toy):
    """A toy that takes views of any size."""

    def __init__(self) -> None:
        super().__init__(norm=False)
        self.backbone = Net(nn.AdaptiveAvgPool2d(8), *self.backbone)
        self.average = copy.deepcopy(self.backbone).requires_grad_(False)


def test_smaller_views_at_first_shorten_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass takes as many seconds as its views have rows of pixels, and nothing else takes any."""
    cfg, now = replace(CFG, progressive_resizing=0.6), [0.0]

    def forward(self: Toy, batch: Batch, info: StepInfo) -> LossOutput:
        now[0] += batch.views[0].shape[-1]
        return whole(self, batch, info)

    whole = Toy.forward
    monkeypatch.setattr(Toy, "forward", forward)
    found = estimate_cost(Pooled(), noise(), RESIZED, cfg, OptimConfig(), budget=1000, clock=lambda: now[0])
    assert found.seconds == pytest.approx(15 * (0.6 * 4 + 0.4 * 8))
    runner = StepRunner(Pooled(), noise(), RESIZED, cfg, OptimConfig())
    assert (runner.small_steps, runner.total_steps) == (9, 15)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for start, seconds in ((0, found.seconds), (9, 15 * 8)):
        estimator, lines = CostEstimator(runner, start), []
        with closing(runner.batches(start, 15)) as batches:
            for step in range(start, 15):
                runner.train_step(batches, step)
                lines.append(estimator.after_step(step + 1))
        assert [line.seconds for line in lines if line] == [pytest.approx(seconds)]


def test_batches_are_tried_until_one_does_not_fit() -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= 100

    assert largest_that_fits(fits, 16, 1000) == 64
    assert tried == [32, 64, 128]
    assert largest_that_fits(fits, 16, 40) == 32


def test_running_out_of_memory_is_handled_and_other_errors_are_raised() -> None:
    def full() -> None:
        raise torch.cuda.OutOfMemoryError("full")

    assert fits_in_memory(lambda: None)
    assert not fits_in_memory(full)
    with pytest.raises(ZeroDivisionError):
        fits_in_memory(lambda: 1 // 0)
