"""Compute the metrics of a model."""

import math
from collections.abc import Collection, Iterable

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import STDERR, Group, Metric, Values, standard_error
from limbeck.evaluation.metrics import GROUPS, all_metrics
from limbeck.evaluation.results import ModelScores


def measure(
    inputs: MetricInputs, *, untrained_only: bool = False, groups: Collection[Group] = GROUPS
) -> dict[int, Values]:
    """Return the values of every metric in `groups` with all its needs met, at every depth of the model.

    An accuracy has its standard error with it. A value is None where it is not finite.
    """
    found: dict[int, Values] = {depth: {} for depth in inputs.depths}
    for name, metric in all_metrics().items():
        wanted = metric.group in groups and (metric.untrained or not untrained_only)
        if wanted and metric.needs <= inputs.offers:
            for depth, values in metric.compute(inputs).items():
                _check_columns(name, metric, values)
                finite = {key: _finite(value) for key, value in values.items()}
                found[depth] |= finite | _errors(metric, finite, len(inputs.data.test))
    return found


def measure_whole(inputs: MetricInputs, groups: Collection[Group] = GROUPS) -> ModelScores:
    """Return the values of a model at its last depth, under its name."""
    values = measure(inputs, groups=groups)[inputs.depths[-1]]
    return ModelScores(name=inputs.model.name, image_size=inputs.model.image_size, values=values)


def _errors(metric: Metric, values: Values, images: int) -> Values:
    """Return the standard errors of the accuracies among `values`."""
    accuracies = {column.name: values.get(column.name) for column in metric.columns if column.accuracy}
    return {name + STDERR: standard_error(p, images) for name, p in accuracies.items() if p is not None}


def _check_columns(name: str, metric: Metric, values: Iterable[str]) -> None:
    undeclared = set(values) - {column.name for column in metric.columns}
    assert not undeclared, f"metric '{name}' computes {sorted(undeclared)} and declares no such columns"


def _finite(value: float | None) -> float | None:
    """Return None for what JSON cannot hold, such as the alignment ratio of a collapsed layer."""
    return value if value is not None and math.isfinite(value) else None
