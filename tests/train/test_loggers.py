"""Experiment trackers: which ones, one history over a resumed run, and that a failure of theirs harms nothing."""

import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from limbeck.train import loggers as module
from limbeck.train.config import LoggerName
from limbeck.train.loggers import RunLoggers, resolve_loggers
from tests.helpers.errors import raises
from tests.helpers.toy import fit, toy


class Tracker:
    """A fake of Fabric's loggers that records what it gets, by the identifier of its run."""

    histories: ClassVar[dict[str, list[int]]] = {}
    params: ClassVar[list[Any]] = []
    closed: ClassVar[list[str]] = []
    fails_at: ClassVar[int] = 10**9

    def __init__(self, **settings: Any) -> None:
        self.run_id = settings.get("id") or settings.get("run_id") or f"made-{len(self.histories)}"
        self.histories.setdefault(self.run_id, [])
        self.experiment = self

    def log_hyperparams(self, params: Any) -> None:
        self.params.append(params)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        if step >= self.fails_at:
            raise ConnectionError("no route to host")
        self.histories[self.run_id].append(step)

    def finalize(self, status: str) -> None:
        self.closed.append(status)

    def finish(self, code: int) -> None:
        self.closed.append(f"exit {code}")


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[Tracker]:
    """Replace W&B's and MLflow's loggers by a fake; every package is installed."""
    for name in ("histories", "params", "closed"):
        monkeypatch.setattr(Tracker, name, type(getattr(Tracker, name))())
    replaced = ModuleType("pytorch_lightning.loggers")
    replaced.__dict__.update(WandbLogger=Tracker, MLFlowLogger=Tracker)
    monkeypatch.setitem(sys.modules, "pytorch_lightning.loggers", replaced)
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    return Tracker


def test_the_real_loggers_take_the_arguments_of_the_fakes() -> None:
    """pytorch-lightning is part of the extras wandb and mlflow alone, since importing it takes seconds."""
    loggers = pytest.importorskip("pytorch_lightning.loggers")
    inspect.signature(loggers.WandbLogger).bind(name="run", save_dir=Path("run"), id="a", project="limbeck")
    inspect.signature(loggers.MLFlowLogger).bind(experiment_name="a", run_name="b", tracking_uri=None, run_id=None)


@pytest.mark.parametrize(
    ("names", "installed", "expected"),
    [
        (("auto",), {"tensorboard"}, ["tensorboard"]),
        (("auto",), set(), []),
        ((), {"tensorboard"}, []),
        (("auto", "wandb", "wandb"), {"tensorboard", "wandb"}, ["tensorboard", "wandb"]),
        (("tensorboard", "auto"), {"tensorboard"}, ["tensorboard"]),
        (("mlflow",), {"tensorboard", "mlflow"}, ["mlflow"]),
    ],
)
def test_auto_is_tensorboard_if_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, names: tuple[LoggerName, ...], installed: set[str], expected: list[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: name if name in installed else None)
    assert resolve_loggers(names) == expected


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, name: LoggerName) -> None:
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with raises("missing-package", f"pip install 'limbeck[{name}]'"):
        resolve_loggers((name,))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_resumed_run_continues_its_history(tmp_path: Path, tracker: type[Tracker], name: LoggerName) -> None:
    settings: dict[str, Any] = {"loggers": (name,), "log_every_steps": 5, "config": {"method": "toy"}}
    fit(tmp_path, toy(), **settings)
    identifier = json.loads((tmp_path / "loggers.json").read_text())[name]
    fit(tmp_path, toy(), resume=True, **settings)
    assert tracker.histories == {identifier: [5, 10]}
    assert tracker.params == [{"method": "toy"}] * 2
    assert tracker.closed[:1] == ["success"]
    assert ("exit 0" in tracker.closed) == (name == "wandb")


def test_two_runs_have_two_histories(tmp_path: Path, tracker: type[Tracker]) -> None:
    for name in ("a", "b"):
        fit(tmp_path / name, toy(), loggers=("wandb", "mlflow"), log_every_steps=10)
    assert len(tracker.histories) == 4


def test_a_run_that_fails_is_marked_as_failed(tmp_path: Path, tracker: type[Tracker]) -> None:
    class Failing(type(toy())):  # type: ignore[misc]
        def after_step(self, loss: Any, step_info: Any) -> None:
            raise OSError("power cut")

    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path, toy(kind=Failing), loggers=("wandb",))
    assert tracker.closed == ["failed", "exit 1"]


def test_a_tracker_that_fails_does_not_end_the_run(
    tmp_path: Path, tracker: type[Tracker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "fails_at", 5)
    method = fit(tmp_path, toy(), loggers=("wandb",), log_every_steps=2)
    assert len(method.clocks) == 10
    assert list(tracker.histories.values()) == [[2, 4]]
    assert len([record for record in caplog.records if "wandb" in record.message]) == 1


def test_a_tracker_that_cannot_start_is_one_sentence(
    tmp_path: Path, tracker: type[Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**settings: Any) -> None:
        raise PermissionError("api_key not configured")

    monkeypatch.setattr(sys.modules["pytorch_lightning.loggers"], "WandbLogger", refuse)
    with raises("logger-failed", "wandb", "api_key not configured"):
        RunLoggers(("wandb",), tmp_path, 0, {})


def test_tensorboard_has_each_step_of_a_resumed_run_once(tmp_path: Path) -> None:
    """The second part starts at the checkpoint of the first epoch; what was logged after it is replaced."""

    class Killed(type(toy())):  # type: ignore[misc]
        def after_step(self, loss: Any, step_info: Any) -> None:
            super().after_step(loss, step_info)
            if step_info.step == 7:
                raise OSError("power cut")

    settings: dict[str, Any] = {
        "loggers": ("tensorboard",),
        "log_every_steps": 1,
        "checkpoint_every_minutes": 0,
        "config": {"a": 1},
    }
    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path, toy(kind=Killed), **settings)
    fit(tmp_path, toy(), resume=True, **settings)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 11))
