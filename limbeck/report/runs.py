"""What a run folder holds, read for a report."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.core.run_folder import ENCODER, HEALTH, METRICS, RESULT
from limbeck.data.store.layout import is_store, read_manifest
from limbeck.evaluate.results import Result, Row
from limbeck.runs.resolve import RunConfig, read_config

AFFORDABLE = 0.01  # share of the images that a cut may get wrong beyond the best layer
Curve = list[tuple[float, float]]  # (epoch, value)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder."""

    folder: Path
    name: str
    """Tells it from the other runs of the report."""
    config: RunConfig
    images: int | None
    """Of its store, None where that is gone or was in memory."""
    finished: bool
    curves: dict[str, Curve]
    """By column of metrics.csv."""
    result: Result | None
    health: str | None
    """What training said of its health at the end; None before that."""

    @property
    def method(self) -> str:
        """`byol`, or `sdssl over byol`."""
        data = to_json(self.config.method)
        assert isinstance(data, dict)
        host = data.get("host")
        return f"{data['name']} over {host['name']}" if isinstance(host, dict) else str(data["name"])

    @property
    def knn(self) -> float | None:
        """k-NN accuracy of the last layer: evaluated, or else the last one of training."""
        if self.result:
            return self.result.rows[-1].knn
        return self.curves["knn"][-1][1] if self.curves.get("knn") else None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders; UserError where one is not a run, or not a readable one."""
    last = [folder.resolve().name for folder in folders]
    names = last if len(set(last)) == len(last) else [str(folder) for folder in folders]
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def cheapest_cut(result: Result, lost: float = AFFORDABLE) -> Row | None:
    """The lowest layer whose k-NN accuracy is within `lost` of the best layer's; None without labels."""
    scored = [(row.knn, row) for row in result.rows if row.knn is not None]
    if not scored:
        return None
    best = max(knn for knn, _ in scored)
    return next(row for knn, row in scored if knn >= best - lost)


def _read(folder: Path, name: str) -> Run:
    config = read_config(folder)
    result = folder / RESULT
    return Run(
        folder=folder,
        name=name,
        config=config,
        images=_images(config),
        finished=(folder / ENCODER).is_dir(),
        curves=read_curves(folder / METRICS),
        result=Result.load(result) if result.is_file() else None,
        health=read_health(folder / HEALTH),
    )


def read_health(path: Path) -> str | None:
    """The sentence of health.json; None without the file, UserError where it is another one."""
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_bytes())["sentence"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not what a training wrote ({error!r}); remove it") from error


def _images(config: RunConfig) -> int | None:
    store = Path(config.store)
    return read_manifest(store).images if config.store and is_store(store) else None


def read_curves(path: Path) -> dict[str, Curve]:
    """Column -> its finite values by epoch; empty without a file, UserError where it is not a log of training."""
    if not path.is_file():
        return {}
    curves: dict[str, Curve] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                epoch = float(row["epoch"])
                for name, text in row.items():
                    if text and math.isfinite(value := float(text)):
                        curves.setdefault(name, []).append((epoch, value))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not the log of a training ({error!r}); remove it or the run") from error
    return curves
