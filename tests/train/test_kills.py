"""After SIGKILL at any moment, the resumed run equals one that was never killed; SIGINT and SIGTERM save first."""

import random
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from limbeck.train.loop import train
from tests.helpers.commands import Run
from tests.helpers.kills import METHODS, Kill, choose, differences, kill_and_resume, next_command, run, write_store

OPTIONS = METHODS["byol"]


class Harness:
    """A store, a run that is never killed, and the moments of its life."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.store = write_store(folder)
        code, self.life = run(self.command("whole"), self.log)
        assert code == 0, self.log.read_text()

    def command(self, name: str, *more: str) -> list[str]:
        return ["pretrain", str(self.store), "--out", str(self.folder / name), *OPTIONS, *more]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return Harness(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("moments", [("start", "checkpoint"), ("evaluation", "step"), ("encoder",)], ids="-".join)
def test_a_killed_run_ends_as_if_it_had_not_been(harness: Harness, moments: tuple[str, ...]) -> None:
    out, chance = harness.folder / "-".join(moments), random.Random(0)
    kills = [choose(harness.life, moment, chance) for moment in moments]
    assert kill_and_resume(out, harness.command(out.name), kills, harness.log)
    assert differences(harness.folder / "whole", out) == []


def test_the_comparison_detects_another_seed(harness: Harness) -> None:
    code, _ = run(harness.command("other", "--seed", "1"), harness.log)
    assert code == 0
    found = differences(harness.folder / "whole", harness.folder / "other")
    assert {"metrics.csv", "model.safetensors"} <= set(found)
    assert any(name.startswith(".optimizer.state") for name in found)


def test_a_run_in_progress_is_locked(harness: Harness, limbeck: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    out, log = harness.folder / "alone", harness.folder / "alone.log"
    codes: list[int] = []

    def meanwhile(*args: Any, **kwargs: Any) -> None:
        codes.append(run(next_command(out, []), log)[0])
        train(*args, **kwargs)

    monkeypatch.setattr("limbeck.runs.training.train", meanwhile)
    assert limbeck(*harness.command("alone"))[0] == 0
    assert codes == [1]
    assert log.read_text().startswith(f"limbeck: another process is writing to '{out}'")
    assert log.read_text().count("\n") == 1
    assert run(next_command(out, []), log)[0] == 0
    assert differences(harness.folder / "whole", out) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_with_the_command_to_resume(harness: Harness, number: signal.Signals) -> None:
    out = harness.folder / number.name
    code, life = run(harness.command(out.name), harness.log, Kill("step", 7, 0.0, number))
    assert code == 128 + number
    assert "checkpoint" in [moment for moment, _ in life[-4:]]
    last = harness.log.read_text().splitlines()[-1]
    assert re.search(rf"step \d+ of 25.*`limbeck resume {out}`", last)
    assert run(next_command(out, []), harness.log)[0] == 0
    assert differences(harness.folder / "whole", out) == []
