"""Evaluate several networks on the same images, side by side: runs at every layer, others as a whole."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.run_folder import CONFIG
from limbeck.data.check.issues import ALLOW_BAD
from limbeck.data.sources.open import Source
from limbeck.data.sources.selection import Selection
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.references import (
    FIXED_KERNELS,
    START_NETWORK,
    UNTRAINED_NETWORK,
    load_whole,
    measure_references,
)
from limbeck.evaluation.results import EvaluationResult, ModelScores
from limbeck.runs.api import evaluate_run
from limbeck.runs.config import read_config
from limbeck.runs.labeled import LabeledSelection, LabeledSources, select
from limbeck.runs.suited import check_suited


class Evaluations(NamedTuple):
    """Networks that were evaluated on the same images."""

    results: dict[str, EvaluationResult]
    """Those of the runs, by name."""
    models: tuple[ModelScores, ...]
    """Every network as a whole: the runs with their untrained networks, and the lines of reference."""


def evaluate_networks(
    networks: Sequence[str],
    train_data: Source,
    test_data: Source,
    cfg: EvaluateConfig | None = None,
    *,
    others: Sequence[str] = (),
    allow_bad: float = ALLOW_BAD,
    exclude: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
) -> Evaluations:
    """Evaluate runs at every layer, and other networks as a whole; write the result.json of each run.

    Args:
        networks: folders of runs; or, as a whole, what `load_whole` takes: encoders, exports, timm:NAME ...
        train_data, test_data: labeled images to fit on, and to score.
        cfg: settings of the evaluation.
        others: further networks as a whole, runs included.
        allow_bad: fraction of the images of either source that may be unreadable.
        exclude, only: patterns of images that are left out, as in `limbeck.build_store`; None: those of the runs.

    Raises:
        UserError: as `evaluate_run`; there is no such network; or a network that is not a run gets no labels.
    """
    cfg, runs = cfg or EvaluateConfig(), [name for name in networks if is_run(name)]
    selection = _common_selection(runs, exclude, only)
    others = [*(name for name in networks if name not in runs), *others]
    check_suited(runs, others, (train_data, test_data), cfg, allow_bad=allow_bad, exclude=exclude, only=only)
    if not runs:
        sources = LabeledSources(
            train=train_data, test=test_data, allow_bad=allow_bad, left_out=selection, device=cfg.device
        )
        return Evaluations({}, _evaluate_whole(others, sources, cfg))
    results: dict[str, EvaluationResult] = {}
    shared: tuple[ModelScores, ...] | None = None
    for run in runs:
        result = evaluate_run(
            run,
            train_data,
            test_data,
            cfg,
            others=others if shared is None else (),
            references=shared,
            allow_bad=allow_bad,
            exclude=exclude,
            only=only,
        )
        results[run] = result
        shared = tuple(model for model in result.references if not _is_own(model))
    return Evaluations(results, (*(row for run in runs for row in _rows(run, results[run])), *(shared or ())))


def is_run(name: str) -> bool:
    """Return whether `name` is a folder that is a run, or that is no network of another kind either."""
    config = Path(name) / CONFIG
    if not config.is_file():
        return Path(name).is_dir()
    try:
        found = read_json(config)
    except UserError:
        return True  # reading it as a run tells what is wrong with it
    return not isinstance(found, dict) or not {"architecture", "model_type", "limbeck"} & set(found)


def _common_selection(
    runs: Sequence[str], exclude: Sequence[str] | None, only: Sequence[str] | None
) -> LabeledSelection:
    """Return the patterns left out for all networks; UserError where the runs differ in them and none are given."""
    found = {run: select(read_config(Path(run)), exclude, only) for run in runs}
    if len({*found.values()}) > 1:
        listed = ", ".join(f"'{run}' {str(chosen.patterns) or 'nothing'}" for run, chosen in found.items())
        raise UserError(
            f"the runs left out different images: {listed}; give --exclude and --only for the evaluation, or evaluate "
            "them one by one",
            code="selections-differ",
        )
    return next(iter(found.values()), LabeledSelection(Selection.by(exclude or (), only or ()), inherited=False))


def _evaluate_whole(names: Sequence[str], sources: LabeledSources, cfg: EvaluateConfig) -> tuple[ModelScores, ...]:
    models = [load_whole(name) for name in names]
    train, test = sources.open()
    data = EvalData.of(train, test, cfg)
    if data.labels is None:
        raise UserError(
            "networks that are not runs are compared by their accuracies, which need labels: put each class into its "
            "own sub-folder, two at least",
            code="images-not-labeled",
        )
    found = measure_references(data, models)
    return (*found[len(found) - len(models) :], *found[: len(found) - len(models)])


def _is_own(model: ModelScores) -> bool:
    """Return whether a line of reference belongs to one run: its network untrained, its kernels, or its start."""
    return model.name in (UNTRAINED_NETWORK, FIXED_KERNELS) or model.name.startswith(START_NETWORK)


def _rows(run: str, result: EvaluationResult) -> list[ModelScores]:
    """Return a run at its last layer and, where they were measured, the same network untrained and its start."""
    own, last = [model for model in result.references if _is_own(model)], result.layers[-1]
    return [
        ModelScores(name=run, image_size=result.image_size, values=last.values, hits=last.hits),
        *(replace(model, name=f"{run}, {model.name.removesuffix(' network')}") for model in own),
    ]
