"""The loop, with a toy: what a step does, what is written, and that stopping anywhere changes nothing."""

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from limbeck.core.schedules import warmup_cosine
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.data.loader import Loader
from limbeck.train.checkpoint import load_checkpoint
from limbeck.train.config import OptimConfig
from limbeck.train.interrupt import Interrupted
from limbeck.train.optim import build_optimizer
from tests.helpers.errors import raises
from tests.helpers.toy import VIEWS, Toy, fit, noise, toy

ADAMW = OptimConfig(lr=0.1, clip_grad_norm=1.0)
OPTIMS = [ADAMW, OptimConfig(name="lars", lr=2.0, weight_decay=1e-6), OptimConfig(name="sgd", lr=0.5)]


class Stopping(Toy):
    """Sends its own process a signal in the step `at`."""

    at = 4
    number = signal.SIGTERM

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        super().after_step(loss, step_info)
        if step_info.step == self.at:
            os.kill(os.getpid(), self.number)


def rows(run: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv, without what depends on the time of day."""
    with (run / "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "data_wait")} for row in found]


def stop_and_resume(run: Path, **settings: Any) -> Toy:
    """Take five of the ten steps, stop by a signal, and take the other five with a method of other initial weights."""
    with pytest.raises(Interrupted):
        fit(run, toy(kind=Stopping), **settings)
    return fit(run, toy(seed=1), resume=True, **settings)


@pytest.mark.parametrize(("epochs", "steps"), [(1.6, 8), (0.4, 2), (0.01, 1)])
def test_an_epoch_may_be_left_unfinished(tmp_path: Path, epochs: float, steps: int) -> None:
    """The run ends there, at a learning rate and a log row of its own."""
    assert len(fit(tmp_path, toy(), epochs=epochs).clocks) == steps
    assert rows(tmp_path)[-1]["step"] == str(steps)


@pytest.mark.parametrize("optim", OPTIMS, ids=lambda optim: optim.name)
@pytest.mark.parametrize(
    "settings",
    [{}, {"accumulate_steps": 2, "precision": "bf16"}, {"precision": "fp16"}],
    ids=["plain", "accumulated", "scaled"],
)
def test_ten_steps_are_five_and_five(tmp_path: Path, optim: OptimConfig, settings: dict[str, Any]) -> None:
    whole = fit(tmp_path / "whole", toy(), optim=optim, log_every_steps=1, **settings)
    parts = stop_and_resume(tmp_path / "parts", optim=optim, log_every_steps=1, **settings)
    expected, got = whole.state_dict(), parts.state_dict()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert len(parts.clocks) == 5


def test_the_norm_of_a_scaled_gradient_is_measured_without_the_scale(tmp_path: Path) -> None:
    for precision in ("fp32", "fp16"):
        fit(tmp_path / precision, toy(), optim=ADAMW, precision=precision, log_every_steps=1)
    plain, scaled = ([float(row["grad_norm"]) for row in rows(tmp_path / name)] for name in ("fp32", "fp16"))
    finite = [norm for norm in scaled if norm < float("inf")]  # the scale starts too large, and a step is skipped
    assert len(finite) >= 8
    assert min(plain) / 2 < min(finite) <= max(finite) < 2 * max(plain)


def test_a_scaled_gradient_that_overflows_skips_a_step_and_not_the_run(tmp_path: Path) -> None:
    class Steep(Toy):
        def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
            loss = super().forward(batch, step_info)
            factor = 1e35 if step_info.step == 3 else 1.0
            return loss._replace(total=loss.total * factor)

    method = fit(tmp_path, toy(kind=Steep), precision="fp16", log_every_steps=1)
    assert all(value.isfinite().all() for value in method.state_dict().values() if value.is_floating_point())
    assert rows(tmp_path)[-1]["step"] == "10"


def test_gradients_that_always_overflow_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Cliff(Toy):
        def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
            loss = super().forward(batch, step_info)
            return loss._replace(total=loss.total * 1e38)

    fit(tmp_path, toy(kind=Cliff), precision="fp16", log_every_steps=1, epochs=4)
    scales = [float(row["loss_scale"]) for row in rows(tmp_path)]
    assert scales == [65536.0 / 2**step for step in range(1, 21)]  # every step is skipped
    assert [record.args for record in caplog.records if "overflow" in record.msg] == [(17, 0.5)]


def test_a_run_killed_between_checkpoints_repeats_its_steps_once_in_the_log(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", toy(), log_every_steps=1, checkpoint_every_minutes=0)

    class Killed(Toy):
        def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
            super().after_step(loss, step_info)
            if step_info.step == 7:
                raise OSError("power cut")

    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path / "killed", toy(kind=Killed), log_every_steps=1, checkpoint_every_minutes=0)
    resumed = fit(tmp_path / "killed", toy(seed=1), log_every_steps=1, checkpoint_every_minutes=0, resume=True)
    assert [info.step for info in resumed.clocks] == [5, 6, 7, 8, 9]  # the checkpoint is that of the first epoch
    assert rows(tmp_path / "whole") == rows(tmp_path / "killed")
    assert torch.equal(whole.average[1].weight, resumed.average[1].weight)


def test_a_run_equals_a_plain_loop(tmp_path: Path) -> None:
    """Compare with two micro-batches, warm-up, weight decay, clipping and the average in plain torch."""
    optim = OptimConfig(lr=3.2, weight_decay=0.1, clip_grad_norm=0.5)
    trained = fit(tmp_path, toy(norm=False, noise=0.0), optim=optim, accumulate_steps=2, warmup_epochs=1)
    plain = toy(norm=False)
    weight, bias = plain.backbone[1].weight, plain.backbone[1].bias
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    batches = Loader(noise(), VIEWS, 8, seed=0, device=torch.device("cpu"), accumulate_steps=2).batches(0, 10)
    for step in range(10):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, 10, 5, 3.2 * 8 / 256)
        for _ in range(2):
            first, second = next(batches).views
            target = plain.average(first).final
            loss = sum((plain.backbone(view).final - target).square().mean() for view in (first, second))
            (loss / 2).backward()
        nn.utils.clip_grad_norm_([weight, bias], 0.5)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for average, live in zip(plain.average.parameters(), plain.backbone.parameters(), strict=True):
                average.lerp_(live, 0.1)
    torch.testing.assert_close(trained.state_dict()["backbone.1.weight"], weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.state_dict()["average.1.bias"], plain.average[1].bias, rtol=1e-4, atol=1e-5)


def test_after_step_comes_once_per_step_with_the_rows_of_all_micro_batches(tmp_path: Path) -> None:
    method = fit(tmp_path, toy(), accumulate_steps=4)
    assert method.clocks == [StepInfo(step, 10) for step in range(10)]
    assert sorted(method.seen[:40].tolist()) == list(range(40))  # the second epoch: each row once


def test_metrics_hold_every_term_and_a_row_per_epoch(tmp_path: Path) -> None:
    fit(tmp_path, toy(), log_every_steps=3, optim=OptimConfig(lr=3.2))
    found = rows(tmp_path)
    assert [int(row["step"]) for row in found] == [3, 5, 6, 9, 10]
    assert [float(row["epoch"]) for row in found] == [0.6, 1.0, 1.2, 1.8, 2.0]
    assert all(float(row["loss"]) == pytest.approx(float(row["near"]) + float(row["far"])) for row in found)
    assert all(float(row["grad_norm"]) > 0 for row in found)
    assert float(found[0]["lr"]) == pytest.approx(warmup_cosine(2, 10, 1, 0.1))
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_the_encoder_is_evaluated_in_evaluation_mode_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    seen: list[bool] = []

    def callback(encoder: Encoder) -> dict[str, float]:
        seen.append(any(module.training for module in encoder.modules()) or torch.is_grad_enabled())
        return {"knn": 0.25 * len(seen)}

    method = toy()
    frozen = method.backbone[2].eval()
    fit(tmp_path, method, eval_callback=callback, epochs=5, eval_every_epochs=2)
    assert seen == [False, False, False]
    assert method.backbone.training
    assert not frozen.training
    assert {int(row["step"]): row["knn"] for row in rows(tmp_path) if row["knn"]} == {10: "0.25", 20: "0.5", 25: "0.75"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_names_the_command_to_resume(tmp_path: Path, number: signal.Signals) -> None:
    method = toy(kind=Stopping)
    assert isinstance(method, Stopping)
    method.number = number
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"step 5 of 10.*`limbeck resume") as caught:
        fit(tmp_path, method)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert (tmp_path / "checkpoint.ckpt").exists()


def test_a_finished_run_is_left_alone_when_resumed(tmp_path: Path) -> None:
    fit(tmp_path, toy())
    before = rows(tmp_path)
    assert fit(tmp_path, toy(), resume=True).clocks == []
    assert rows(tmp_path) == before


def test_a_run_folder_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path, toy())
    with raises("run-exists", tmp_path):
        fit(tmp_path, toy())


def test_a_loss_that_is_not_a_number_ends_the_run_at_the_step_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    class Exploding(Toy):
        def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
            loss = super().forward(batch, step_info)
            return loss._replace(total=loss.total / (step_info.step < 2))

    with raises("not-finite", "step 3", "the loss itself"):
        fit(tmp_path, toy(kind=Exploding), checkpoint_every_minutes=0)
    optimizer = build_optimizer(untouched := toy(seed=1), OptimConfig(lr=0.1))
    assert load_checkpoint(tmp_path / "checkpoint.ckpt", untouched, optimizer, {}) == 0


def test_without_a_terminal_the_log_has_one_line_of_progress_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO", "limbeck")
    fit(tmp_path, toy())
    assert capsys.readouterr().out == ""
    assert "1 x cpu, 32-true: 2 epochs of 5 steps of 8 images" in caplog.text
    assert [message.split()[1] for message in caplog.messages if message.startswith("step ")] == ["10/10"]
