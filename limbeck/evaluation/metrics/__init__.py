"""Evaluation metrics, one file each: a file that defines `METRIC` is found by its presence in this folder.

The file name is the metric's name. Its columns fill result.json, the table in the terminal, the tables and charts of a
report, and the table in docs/evaluation.md (`python -m limbeck.evaluation.columns`), without a line anywhere else.
"""

import importlib
import pkgutil
from functools import cache

from limbeck.evaluation.metric import Column, Group, Metric

GROUPS: tuple[Group, ...] = ("cost", "accuracy", "representation", "fidelity")
"""Groups in the order of tables and reports."""


@cache
def all_metrics() -> dict[str, Metric]:
    """Return every metric by name, in the order of tables: by group, then by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = {name: importlib.import_module(f"{__name__}.{name}").METRIC for name in names}
    return dict(sorted(found.items(), key=lambda item: (GROUPS.index(item[1].group), item[0])))


def all_columns(*groups: Group) -> tuple[Column, ...]:
    """Return the columns of all metrics, or of those in `groups`, in the order of tables."""
    chosen = [metric for metric in all_metrics().values() if metric.group in (groups or GROUPS)]
    return tuple(column for metric in chosen for column in metric.all_columns())
