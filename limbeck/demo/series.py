"""Run everything once on sets of series that aeon contains: training without labels, every block measured, an export.

    limbeck demo --series

The sets are from the archives of UCR and UEA, which ask to be cited: Dau et al., *The UCR Time Series Archive*, 2019;
Bagnall et al., *The UEA Multivariate Time Series Classification Archive*, 2018.
"""

import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.core.logs import ensure_visible
from limbeck.core.run_folder import CONFIG, ENCODER, RESULT
from limbeck.core.text import format_bytes
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.results import EvaluationResult
from limbeck.evaluation.verdict import cheapest_cut
from limbeck.exports.series import export_series
from limbeck.models.encoder_io import training_stage
from limbeck.reports.page import write_report
from limbeck.runs.api import evaluate_run, pretrain
from limbeck.runs.defaults import default_training
from limbeck.runs.resume import resume

logger = logging.getLogger(__name__)
SETS = ("ItalyPowerDemand", "BasicMotions")
"""Days of 24 hours in two seasons; six channels of a watch in four motions."""


def demo_series(out: Path, epochs: float | None = None, sets: tuple[str, ...] = SETS) -> Path:
    """Run the demo in the folder `out` and return its report; whatever is complete there already is used.

    Raises:
        UserError: aeon is not installed.
    """
    ensure_visible()
    runs = {name: out / "runs" / name for name in sets}
    results = {name: _result(name, run, epochs) for name, run in runs.items()}
    logger.info(table(results))
    for name, result in results.items():
        logger.info("%s: %s", name, result.verdict)
    last = sets[-1]
    best, folder = cheapest_cut(results[last]), out / f"{last}-onnx"
    assert best is not None, "the sets have labels"
    if not folder.exists():
        exported = export_series(runs[last], folder, best.depth, "onnx", None)
        size = format_bytes(exported.file_bytes)
        logger.info("%s cut at block %d: %s, %.2f ms per series", last, best.depth, size, exported.latency_ms)
    logger.info("  onnx: %s", folder)
    return write_report([*runs.values()], out / "report.html")


def files_of(name: str) -> tuple[str, str]:
    """Return the training and the test file of a set of aeon, which is not imported; UserError without it."""
    spec = find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the sets of series need aeon: pip install 'limbeck[series]'", code="missing-package")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name
    return str(folder / f"{name}_TRAIN.ts"), str(folder / f"{name}_TEST.ts")


def _result(name: str, run: Path, epochs: float | None) -> EvaluationResult:
    """Train a run on a set, or the rest of it, and evaluate it; what is there already stays."""
    if (run / RESULT).exists():
        return EvaluationResult.load(run / RESULT)
    train, test = files_of(name)
    if not (run / CONFIG).exists():
        logger.info("pretraining on %s, without labels", name)
        usual = default_training("series")
        pretrain(train, run, training=usual if epochs is None else replace(usual, epochs=epochs))
    elif not (run / ENCODER).is_dir() or training_stage(run / ENCODER):
        resume(run)
    return evaluate_run(run, train, test, EvaluateConfig(linear="one-vs-rest", progress=False))


def table(results: dict[str, EvaluationResult]) -> str:
    """Return linear accuracy in %: whole and half networks, and what needs no training, as text."""
    names = list(dict.fromkeys(model.name for result in results.values() for model in result.references))
    head = ["set", "network", "half of it", *names]
    lines = [head]
    for name, result in results.items():
        half = result.layers[(len(result.layers) - 1) // 2]
        own = [result.layers[-1].values.get("linear"), half.values.get("linear")]
        others = {model.name: model.values.get("linear") for model in result.references}
        lines.append([name, *map(_cell, [*own, *(others.get(each) for each in names)])])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rows = ("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(["linear accuracy, %", *rows])


def _cell(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
