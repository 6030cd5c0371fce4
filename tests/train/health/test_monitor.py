"""A run that collapses is named, stopped and leaves its last healthy checkpoint; one that is fine says so."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.train.checkpoint import load_checkpoint
from limbeck.train.config import OptimConfig
from limbeck.train.optim import build_optimizer
from tests.helpers.errors import raises
from tests.helpers.toy import Toy, fit, toy

COLLAPSE = 7  # steps before embeddings become one point; readings are taken after every other one
SETTINGS: dict[str, Any] = {"epochs": 4, "log_every_steps": 1, "health_every_steps": 2, "warmup_epochs": 0}


class Collapsing(Toy):
    """A toy with weights that vanish compared with its bias after some steps, whatever the gradient is."""

    collapse_hint = "pray"

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        super().after_step(loss, step_info)
        if step_info.step >= COLLAPSE:
            self.backbone[1].weight.mul_(1e-3)
            self.backbone[1].bias.fill_(1.0)


def collapsing() -> Toy:
    return toy(kind=Collapsing, norm=False)


def step_of(checkpoint: Path) -> int:
    return load_checkpoint(checkpoint, method := toy(norm=False), build_optimizer(method, OptimConfig(lr=0.1)), {})


def verdict(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "health.json").read_text())
    return found


def test_a_collapse_is_warned_of_and_after_three_readings_stops_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = collapsing()
    hint, command = "try: pray", f"`limbeck resume {tmp_path} --no-stop-on-collapse`"
    with raises("collapsed", "representation collapse: effective rank 1.0 of at most 6", "since step 8", hint, command):
        fit(tmp_path, method, **SETTINGS)
    assert len(method.clocks) == 12  # readings after 8, 10 and 12 steps
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len([text for text in warnings if text.startswith("representation collapse: ")]) == 1
    assert verdict(tmp_path) == {"healthy": False, "step": 12, "sentence": verdict(tmp_path)["sentence"]}
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    read = {int(row["step"]): float(row["embedding_std"]) for row in rows if row["embedding_std"]}
    assert list(read) == [2, 4, 6, 8, 10, 12]
    assert all((std < 0.1) == (step >= 8) for step, std in read.items())


@pytest.mark.parametrize(("checkpoint_every_minutes", "expected"), [(0, 5), (1000, 0)])
def test_the_checkpoint_of_a_stopped_run_is_the_last_healthy_one(
    tmp_path: Path, checkpoint_every_minutes: float, expected: int
) -> None:
    """Epochs end after 5 and 10 steps: the second checkpoint is one of a collapsed run, and is replaced."""
    with raises("collapsed"):
        fit(tmp_path, collapsing(), checkpoint_every_minutes=checkpoint_every_minutes, **SETTINGS)
    assert step_of(tmp_path / "checkpoint.ckpt") == expected
    assert not (tmp_path / "healthy.ckpt").exists()


def test_resumed_it_stops_again_unless_told_not_to(tmp_path: Path) -> None:
    for resume in (False, True):
        with raises("collapsed", "since step 8"):
            fit(tmp_path, collapsing(), checkpoint_every_minutes=0, resume=resume, **SETTINGS)
    method = fit(tmp_path, collapsing(), checkpoint_every_minutes=0, resume=True, stop_on_collapse=False, **SETTINGS)
    assert [info.step for info in method.clocks] == list(range(5, 20))
    assert step_of(tmp_path / "healthy.ckpt") == 5
    assert step_of(tmp_path / "checkpoint.ckpt") == 20
    assert verdict(tmp_path)["sentence"].startswith("representation collapse: ")


def test_a_run_that_recovers_needs_its_spare_checkpoint_no_longer(tmp_path: Path) -> None:
    class Recovering(Collapsing):
        def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
            super().after_step(loss, step_info)
            if step_info.step == 11:
                torch.nn.init.normal_(self.backbone[1].weight)
                self.backbone[1].bias.zero_()
                type(self).after_step = Toy.after_step  # type: ignore[method-assign]

    method = toy(kind=Recovering, norm=False)
    fit(tmp_path, method, checkpoint_every_minutes=0, stop_on_collapse=False, **SETTINGS)
    assert not (tmp_path / "healthy.ckpt").exists()
    assert verdict(tmp_path)["healthy"]


def test_what_came_before_an_interruption_counts(tmp_path: Path) -> None:
    """Killed after two bad readings: the third, of the resumed part, stops the run."""

    class Killed(Collapsing):
        def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
            super().after_step(loss, step_info)
            if step_info.step == 10:
                raise OSError("power cut")

    settings = SETTINGS | {"checkpoint_every_minutes": 0, "health_every_steps": 1}
    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path, toy(kind=Killed, norm=False), stop_on_collapse=False, **settings)
    method = collapsing()
    with raises("collapsed", "since step 8"):
        fit(tmp_path, method, resume=True, **settings)
    assert [info.step for info in method.clocks] == [10]


def test_a_healthy_run_ends_with_one_verdict_and_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    fit(tmp_path, toy(), **SETTINGS)
    assert len([message for message in caplog.messages if message.startswith("healthy: ")]) == 1
    assert "WARNING" not in [record.levelname for record in caplog.records]
    assert verdict(tmp_path) | {"sentence": ""} == {"healthy": True, "step": 20, "sentence": ""}


def test_networks_are_not_diagnosed_before_the_warmup_is_over(tmp_path: Path) -> None:
    class Late(Toy):
        """Start as one point."""

        def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
            if step_info.step == 9:
                torch.nn.init.normal_(self.backbone[1].weight.data)
            return super().forward(batch, step_info)

    method = toy(kind=Late, norm=False)
    torch.nn.init.zeros_(method.backbone[1].weight)
    torch.nn.init.ones_(method.backbone[1].bias)
    fit(tmp_path, method, optim=OptimConfig(lr=1e-4), **SETTINGS | {"warmup_epochs": 2})
    assert verdict(tmp_path)["healthy"]


@pytest.mark.parametrize("every", [0, 1, 3])
def test_readings_change_no_number(tmp_path: Path, every: int) -> None:
    watched = fit(
        tmp_path / "watched", toy(), **SETTINGS | {"health_every_steps": every, "checkpoint_every_minutes": 0}
    )
    alone = fit(tmp_path / "alone", toy(), **SETTINGS | {"health_every_steps": 0})
    expected, got = alone.state_dict(), watched.state_dict()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (tmp_path / "watched" / "health.json").exists() == (every > 0)


def test_a_run_that_is_too_short_to_judge_ends_with_one_checkpoint(tmp_path: Path) -> None:
    """A single low reading spares the checkpoint before it, which the end of a run that is not stopped gives back."""
    settings = SETTINGS | {"epochs": 2, "health_every_steps": 10}
    fit(tmp_path, collapsing(), checkpoint_every_minutes=0, stop_on_collapse=False, **settings)
    assert "representation collapse" not in verdict(tmp_path)["sentence"], "which takes more than one reading"
    assert not (tmp_path / "healthy.ckpt").exists()
