"""Compute the metrics of a model."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch import Tensor

from limbeck.evaluation.hits import Hits, pack_hits
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import STDERR, Group, Metric, Values, standard_error
from limbeck.evaluation.metrics import GROUPS, all_metrics
from limbeck.evaluation.results import ModelScores


class Measured(NamedTuple):
    """One depth of a model."""

    values: Values
    hits: Hits


def measure(
    inputs: MetricInputs, *, untrained_only: bool = False, groups: Collection[Group] = GROUPS
) -> dict[int, Measured]:
    """Return the values of every metric in `groups` with all its needs met, at every depth of the model.

    An accuracy has its standard error with it and, if it is charted, the test images that are classified correctly. A
    value is None where it is not finite.
    """
    found = {depth: Measured({}, {}) for depth in inputs.depths}
    for name, metric in all_metrics().items():
        wanted = metric.group in groups and (metric.untrained or not untrained_only)
        if wanted and metric.needs <= inputs.offers:
            for depth, computed in metric.compute(inputs).items():
                _check_columns(name, metric, computed)
                found[depth].values.update(_values(computed))
                found[depth].hits.update(_hits(metric, computed))
    return found


def measure_whole(inputs: MetricInputs, groups: Collection[Group] = GROUPS) -> ModelScores:
    """Return the values of a model at its last depth, under its name."""
    values, hits = measure(inputs, groups=groups)[inputs.depths[-1]]
    return ModelScores(name=inputs.model.name, image_size=inputs.model.image_size, values=values, hits=hits)


def share_values(column: str, right: Tensor) -> Values:
    """Return the share of the images that are classified correctly, and its standard error."""
    share = right.double().mean().item()
    return {column: share, column + STDERR: standard_error(share, len(right))}


def _values(computed: Mapping[str, float | Tensor | None]) -> Values:
    """Return the numbers, and the shares of accuracies, each followed by its standard error."""
    plain = {name: _finite(value) for name, value in computed.items() if not isinstance(value, Tensor)}
    shares = [share_values(name, right) for name, right in computed.items() if isinstance(right, Tensor)]
    return plain | {name: value for share in shares for name, value in share.items()}


def _hits(metric: Metric, computed: Mapping[str, float | Tensor | None]) -> Hits:
    """Return the correctly classified test images, for the accuracies that are charted."""
    charted = {column.name for column in metric.columns if column.priority == 0}
    return {name: pack_hits(right) for name, right in computed.items() if name in charted and isinstance(right, Tensor)}


def _check_columns(name: str, metric: Metric, computed: Mapping[str, float | Tensor | None]) -> None:
    undeclared = set(computed) - {column.name for column in metric.columns}
    assert not undeclared, f"metric '{name}' computes {sorted(undeclared)} and declares no such columns"
    accuracies = {column.name for column in metric.columns if column.accuracy}
    given = {column for column, value in computed.items() if isinstance(value, Tensor)}
    assert given == accuracies & set(computed), f"metric '{name}' has to give {sorted(accuracies)} per image"


def _finite(value: float | None) -> float | None:
    """Return None for what JSON cannot hold, such as the alignment ratio of a collapsed layer."""
    return value if value is not None and math.isfinite(value) else None
