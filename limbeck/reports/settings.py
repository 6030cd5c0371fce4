"""The settings of runs next to each other: the usual ones, and everything in which the runs differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from limbeck.core.config import Json
from limbeck.reports.portable import portable_config
from limbeck.reports.runs import RunSummary

USUAL = (
    "method.name",
    "method.host.name",
    "method.views",
    "teacher.name",
    "backbone.name",
    "backbone.image_size",
    "backbone.args",
    "training.epochs",
    "training.batch_size",
    "training.seed",
    "training.precision",
    "training.devices",
    "optim.name",
    "optim.lr",
    "optim.weight_decay",
    "store",
    "digest",
)


class Setting(NamedTuple):
    """A setting of every run."""

    name: str
    values: list[str]

    @property
    def differs(self) -> bool:
        """Whether the runs have different values."""
        return len(set(self.values)) > 1


def settings(runs: Sequence[RunSummary]) -> list[Setting]:
    """Return the usual settings that a run has, and further ones in which the runs differ."""
    found = [dict(_flat(portable_config(run.config))) for run in runs]
    names = [*USUAL, *sorted({name for one in found for name in one} - {*USUAL})]
    rows = [Setting(name, [one.get(name, "-") for one in found]) for name in names]
    return [row for row in rows if row.differs or (row.name in USUAL and row.values[0] not in ("-", "", "{}"))]


def _flat(value: Json, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, text) of every setting; the arguments of a network are one."""
    if isinstance(value, Mapping) and not prefix.endswith("args."):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}{key}.")
    elif value is not None:
        yield prefix.removesuffix("."), _text(value)


def _text(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
