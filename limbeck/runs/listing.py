"""Summarize a run folder without loading a network: for lists of runs, in milliseconds each."""

import csv
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.locks import is_locked
from limbeck.core.run_folder import CONFIG, ENCODER, HEALTH, METRICS, STAGE
from limbeck.data.store.layout import is_store, read_manifest

State = Literal["running", "stopped", "finished", "collapsed", "damaged"]
DEPTH = 4  # levels of folders that are searched for runs


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One run: what was trained, how far it is, and how good it is."""

    folder: str
    name: str
    method: str
    """With its host, such as `sdssl over byol`."""
    teacher: str | None
    network: str
    images: int | None
    """Images of its store; None where that is gone or was in memory."""
    epochs: float | str | None
    """Epochs in the configuration of the run."""
    epoch: float
    """Epochs that are logged."""
    step: int
    """Optimizer steps that are logged."""
    loss: float | None
    """The last one that is logged."""
    knn: float | None
    """Share of correct predictions of the last k-NN evaluation of training."""
    state: State

    @property
    def progress(self) -> str:
        """The state with the steps and epochs, such as `stopped after step 37 (epoch 0.4 of 100)`."""
        epochs = f" of {round(self.epochs, 1):g}" if isinstance(self.epochs, int | float) else ""
        word = {"running": "running, at", "finished": "finished at", "damaged": "damaged, at"}.get(
            self.state, f"{self.state} after"
        )
        return f"{word} step {self.step:,} (epoch {round(self.epoch, 1):g}{epochs})"


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the run folders in `folder`, itself included, in the order of their names.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"'{folder}' is not a folder: give the one that has runs in it", code="no-folder")
    yield from _below(folder, DEPTH)


def read_status(run: Path) -> RunStatus:
    """Return the state of a run by its files; a damaged file is a state, not an error."""
    config = _config(run) or {}
    method, training = _part(config, "method"), _part(config, "training")
    last = _last_row(run / METRICS)
    host = _part(method, "host").get("name")
    return RunStatus(
        folder=str(run),
        name=run.resolve().name,
        method=f"{method.get('name', '?')} over {host}" if host else str(method.get("name", "?")),
        teacher=_part(config, "teacher").get("name"),
        network=str(_part(config, "backbone").get("name", "?")),
        images=_images(str(config.get("store") or "")),
        epochs=training.get("epochs"),
        epoch=last.get("epoch", 0.0),
        step=int(last.get("step", 0)),
        loss=last.get("loss"),
        knn=last.get("knn"),
        state=_state(run) if config else "damaged",
    )


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.csv without empty cells; an incomplete last row is left out."""
    rows: list[dict[str, float]] = []
    with suppress(OSError, ValueError), file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            rows.append({name: float(text) for name, text in row.items() if name and text})
    return rows


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if _config(folder) is not None or (folder / METRICS).is_file():
        yield folder
        return
    for inner in sorted(folder.iterdir()) if depth else ():
        if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
            with suppress(PermissionError):
                yield from _below(inner, depth - 1)


def _config(run: Path) -> dict[str, Any] | None:
    """Return the content of config.json if it is that of a run, else None."""
    with suppress(UserError, OSError):
        found = read_json(run / CONFIG) if (run / CONFIG).is_file() else None
        if isinstance(found, dict) and {"method", "training"} <= {*found}:
            return found
    return None


def _part(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _last_row(file: Path) -> dict[str, float]:
    """Return the last finite value of every column."""
    last: dict[str, float] = {}
    for row in read_metrics(file):
        last |= {name: value for name, value in row.items() if math.isfinite(value)}
    return last


def _images(store: str) -> int | None:
    with suppress(UserError, OSError):
        return read_manifest(Path(store)).images if store and is_store(Path(store)) else None
    return None


def _state(run: Path) -> State:
    """Return the state: "collapsed" for a run that stopped after a collapse, "finished" for one that completed."""
    if is_locked(run):
        return "running"
    if _has_ended(run / ENCODER):
        return "finished"
    with suppress(UserError, OSError):
        verdict = read_json(run / HEALTH) if (run / HEALTH).is_file() else None
        if isinstance(verdict, dict) and verdict.get("healthy") is False:
            return "collapsed"
    return "stopped"


def _has_ended(encoder: Path) -> bool:
    """Return whether the encoder is there and is not that of a run on its way."""
    with suppress(UserError, OSError):
        content = read_json(encoder / "config.json") if encoder.is_dir() else None
        limbeck = _part(content, "limbeck") if isinstance(content, dict) else None
        return limbeck is not None and STAGE not in _part(limbeck, "provenance")
    return False
