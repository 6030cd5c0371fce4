"""Experiment trackers that get the rows of metrics.csv: TensorBoard, Weights & Biases and MLflow, by Fabric's loggers.

A resumed run continues its history in each of them: TensorBoard drops the steps after the checkpoint, the other two
find the run by the identifier in `loggers.json`.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from limbeck.core.config import Json
from limbeck.core.disk import write_errors_as_user_error
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write
from limbeck.core.run_folder import LOGGERS, TENSORBOARD
from limbeck.train.config import LoggerName

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

logger = logging.getLogger(__name__)

PROJECT = "limbeck"  # project in W&B and experiment in MLflow, unless the environment names another


def resolve_loggers(names: Sequence[LoggerName]) -> list[str]:
    """Return the trackers that `names` stand for, each once; "auto" is TensorBoard if its package is installed.

    Raises:
        UserError: the package of a tracker is not installed.
    """
    chosen = dict.fromkeys(name for name in names if name != "auto")
    if missing := [name for name in chosen if not find_spec(name)]:
        raise UserError(
            f"the logger {missing[0]} needs its package: pip install 'limbeck[{missing[0]}]', or leave it out of "
            "--loggers",
            code="missing-package",
        )
    auto = ["tensorboard"] if "auto" in names and find_spec("tensorboard") else []
    return list(dict.fromkeys([*auto, *chosen]))


class RunLoggers:
    """The trackers of one run, in the one process that writes.

    Args:
        names: as in `TrainConfig.loggers`.
        run: folder of the run.
        start: optimizer steps taken before.
        config: everything that defines the run, shown next to its curves.

    Raises:
        UserError: a package is missing, or a tracker cannot start (no account, no network).
    """

    def __init__(self, names: Sequence[LoggerName], run: Path, start: int, config: Json) -> None:
        self._run = run
        identifiers = _read_identifiers(run / LOGGERS)
        self._loggers: dict[str, Logger] = {}
        for name in resolve_loggers(names):
            try:
                self._loggers[name] = found = _BUILDERS[name](run, start, identifiers)
                found.log_hyperparams(config if isinstance(config, dict) else {})
            except Exception as error:  # the trackers raise classes of their own
                raise UserError(
                    f"the logger {name} cannot start ({one_line(error)}); mend that or leave it out of --loggers",
                    code="logger-failed",
                ) from error
        if identifiers:
            with atomic_write(run / LOGGERS) as path:
                path.write_text(json.dumps(identifiers, indent=2) + "\n", encoding="utf-8")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send a row to every tracker. One that fails is left out from then on: it must not end the training."""
        for name, found in list(self._loggers.items()):
            try:
                with write_errors_as_user_error(self._run / name):
                    _log_metrics(found, values, step)
            except UserError:
                raise
            except Exception as error:
                logger.warning("the logger %s failed at step %d and is left out from now on: %s", name, step, error)
                del self._loggers[name]

    def close(self, completed: bool) -> None:
        """Complete what the trackers have of this run, or of this part of it."""
        for name, found in self._loggers.items():
            with write_errors_as_user_error(self._run / name):
                found.finalize("success" if completed else "failed")
            if name == "wandb":
                found.experiment.finish(0 if completed else 1)  # type: ignore[attr-defined] # or the next run joins it


def _log_metrics(found: "Logger", values: Mapping[str, float], step: int) -> None:
    try:
        found.log_metrics(dict(values), step)
    except ValueError as error:  # in which Fabric's TensorBoardLogger wraps all others
        raise error.__cause__ or error from None


def _tensorboard(run: Path, start: int, identifiers: dict[str, str]) -> "Logger":
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(run, name=TENSORBOARD, version="", default_hp_metric=False, purge_step=start + 1)


def _wandb(run: Path, start: int, identifiers: dict[str, str]) -> "Logger":
    from pytorch_lightning.loggers import WandbLogger

    identifier = identifiers.setdefault("wandb", uuid4().hex)
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return WandbLogger(name=run.name, save_dir=run, id=identifier, project=project)


def _mlflow(run: Path, start: int, identifiers: dict[str, str]) -> "Logger":
    from pytorch_lightning.loggers import MLFlowLogger

    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    server = os.environ.get("MLFLOW_TRACKING_URI")
    identifier = identifiers.get("mlflow")
    found = MLFlowLogger(experiment_name=experiment, run_name=run.name, tracking_uri=server, run_id=identifier)
    identifiers["mlflow"] = str(found.run_id)
    return found


_BUILDERS: dict[str, Callable[[Path, int, dict[str, str]], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _read_identifiers(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not JSON: {one_line(error)}; remove it to start a new history", code="not-json"
        ) from error
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
