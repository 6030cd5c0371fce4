"""Read the contents of a report from run folders."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.run_folder import ADAPTATION, ENCODER, FINETUNING, HEALTH, METRICS, RESULT
from limbeck.data.store.layout import is_store, read_manifest
from limbeck.evaluation.adaptation import Adaptation
from limbeck.evaluation.results import EvaluationResult
from limbeck.modalities import modality_of
from limbeck.models.encoder_io import training_stage
from limbeck.reports.portable import portable_result
from limbeck.runs.config import RunConfig, read_config
from limbeck.runs.finetuning import Finetuned

Curve = list[tuple[float, float]]  # (epoch, value)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Contents of a run folder."""

    folder: Path
    name: str
    """Unique among the runs of the report."""
    config: RunConfig
    images: int | None
    """Images that it was trained on; None where its store is gone or was in memory."""
    finished: bool
    stage: str
    """Progress at the last checkpoint, as in "step 37 of 300"; empty once training has ended."""
    curves: dict[str, Curve]
    """Column of metrics.csv -> its values."""
    result: EvaluationResult | None
    health: str | None
    """The sentence of training about its health; None before the end."""
    adaptation: Adaptation | None = None
    """Of a run that was held to its start: which of the two is better, and is therefore its encoder."""
    finetuned: Finetuned | None = None
    """Of a run of `limbeck finetune`: its accuracy beside that of frozen features."""

    @property
    def method(self) -> str:
        """The method with its host, such as `byol` or `sdssl over byol`."""
        data = to_json(self.config.method)
        assert isinstance(data, dict)
        host = data.get("host")
        return f"{data['name']} over {host['name']}" if isinstance(host, dict) else str(data["name"])

    @property
    def nouns(self) -> tuple[str, str]:
        """Nouns for one row of its data, and for several."""
        return modality_of(self.config.backbone).nouns

    @property
    def knn(self) -> float | None:
        """k-NN accuracy of the last layer from the evaluation, or else the last one of training."""
        if self.result:
            return self.result.layers[-1].values.get("knn")
        return self.curves["knn"][-1][1] if self.curves.get("knn") else None

    @property
    def epoch(self) -> float:
        """Epochs that are logged."""
        return self.curves["step"][-1][0] if self.curves.get("step") else 0.0

    @property
    def seconds(self) -> float:
        """Time of its steps, from the logged speeds; 0 where those or the number of images are not known."""
        seconds, before = 0.0, 0.0
        for epoch, speed in self.curves.get("images_per_second", []):
            seconds += (epoch - before) * (self.images or 0) / speed if speed else 0.0
            before = epoch
        return seconds


def read_runs(folders: Sequence[Path]) -> list[RunSummary]:
    """Read the runs in these folders.

    Raises:
        UserError: a folder is not a run, or a file in it is damaged.
    """
    return [_read(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]


def read_curves(path: Path) -> dict[str, Curve]:
    """Return the finite values of every column of metrics.csv by epoch; empty without a file.

    Raises:
        UserError: the file is not a log of training.
    """
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
        raise UserError(
            f"'{path}' is not the log of a training run ({error!r}); remove it or the run", code="not-a-training-log"
        ) from error
    return curves


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the last parts of the folders, as many as tell them apart; a folder that is given twice has a number."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts), default=1)):
        names = ["/".join(some[-count:]) for some in parts]
        if len(set(names)) == len(set(parts)):
            earlier = [names[:number].count(name) for number, name in enumerate(names)]
            return [f"{name} ({count + 1})" if count else name for name, count in zip(names, earlier, strict=True)]
    return [str(folder) for folder in folders]


def _read(folder: Path, name: str) -> RunSummary:
    config = read_config(folder)
    result, encoder = folder / RESULT, folder / ENCODER
    stage = training_stage(encoder) if (encoder / "config.json").is_file() else ""
    return RunSummary(
        folder=folder,
        name=name,
        config=config,
        images=_images(config),
        finished=(folder / ENCODER).is_dir() and not stage,
        stage=stage,
        curves=read_curves(folder / METRICS),
        result=portable_result(EvaluationResult.load(result), config) if result.is_file() else None,
        health=_health(folder / HEALTH),
        adaptation=Adaptation.load(folder / ADAPTATION) if (folder / ADAPTATION).is_file() else None,
        finetuned=from_json(Finetuned, read_json(folder / FINETUNING)) if (folder / FINETUNING).is_file() else None,
    )


def _health(path: Path) -> str | None:
    if not path.is_file():
        return None
    found = read_json(path, "remove it")
    if not isinstance(found, dict) or "sentence" not in found:
        raise UserError(f"'{path}' was not written by a training run; remove it", code="not-a-health-file")
    return str(found["sentence"])


def _images(config: RunConfig) -> int | None:
    store = Path(config.store)
    if not (config.store and is_store(store)):
        return None
    held_out = config.teacher.val_images if config.teacher else None
    return read_manifest(store).images - (held_out or 0)
