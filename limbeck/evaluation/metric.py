"""The interface of an evaluation metric: the columns that it fills, what it needs, and how it is computed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import Tensor

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.models import Need

Values = dict[str, float | None]
"""Column name -> value; None where a value is undefined or not finite."""

Computed = dict[str, float | Tensor | None]
"""As `Values`, but an accuracy is given by whether each test image is classified correctly, bool [M]."""

Group = Literal["cost", "accuracy", "representation", "fidelity"]
"""Section of tables and reports that a metric belongs to."""

UNTRAINED = "untrained_"
"""Prefix of the columns of the same network at its random initialization."""

STDERR = "_stderr"
"""Suffix of the columns of standard errors."""


def standard_error(accuracy: float, images: int) -> float:
    """Return sqrt(p (1 - p) / n), the standard error of an accuracy p on n independent images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def decimals(digits: int) -> Callable[[float], str]:
    """Return a formatter with a fixed number of decimals: `decimals(1)(96.34)` is `"96.3"`."""
    return f"{{:,.{digits}f}}".format


def significant(value: float) -> str:
    """Return a number with three significant digits, without an exponent: `"0.00321"`, `"5.53"`, `"1,280"`."""
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, 2 - magnitude)}f}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number per depth. Its name is the key in result.json; tables, charts and the documentation show the rest."""

    name: str
    label: str
    help: str
    """Definition, for the documentation and the tooltips of a report."""
    short: str = ""
    """Label for narrow tables; the label if empty."""
    unit: str = ""
    scale: float = 1.0
    """Factor from the stored value to the one shown in `unit`: 100 for a share in %."""
    format: Callable[[float], str] = "{:,.2f}".format
    """Text of a scaled value."""
    better: Literal["higher", "lower"] | None = None
    priority: int = 0
    """0: also charted; 1 or 2: shown while there is room; 3: in result.json alone."""
    reference: bool = False
    """Whether the value is a point of comparison (untrained, by chance), which is shown in gray."""
    accuracy: bool = False
    """Whether the value is the share of the test images that are classified correctly, which has a standard error in a
    column of its own."""
    rises: bool = False
    """Whether the value cannot fall with depth, so that a lower one is noise and marked."""

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def scaled(self, value: float | None) -> float | None:
        """Return a stored value in `unit`."""
        return None if value is None else self.scale * value

    def text(self, value: float | None) -> str:
        """Return the text of a stored value, `"-"` where there is none."""
        return "-" if value is None else self.format(self.scale * value)

    def untrained(self) -> "Column":
        """Return the column of the same value at the random initialization of the network."""
        return replace(
            self,
            name=UNTRAINED + self.name,
            label="untrained",
            short="init",
            help=f"`{self.name}` of the same network at its random initialization",
            better=None,
            priority=min(3, self.priority + 1),
            reference=True,
        )

    def stderr(self) -> "Column":
        """Return the column of the standard error of an accuracy."""
        return replace(
            self,
            name=self.name + STDERR,
            label="±",
            short="",
            help=f"standard error of `{self.name}` on n test images, sqrt(p (1 - p) / n)",
            better=None,
            priority=3 if self.reference else self.priority,
            reference=True,
            accuracy=False,
        )


share_column = partial(Column, unit="%", scale=100, format=decimals(1))
"""Return a column of shares, which are shown in percent."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """An evaluation metric: `METRIC` of a file in `limbeck/evaluation/metrics`, whose name is the metric's name."""

    group: Group
    columns: tuple[Column, ...]
    compute: Callable[[MetricInputs], Mapping[int, Mapping[str, float | Tensor | None]]]
    """Return the columns at every depth, as `Computed`."""
    needs: frozenset[Need] = frozenset()
    """Inputs that must be available; without them the metric is left out."""
    untrained: bool = False
    """Whether it is also computed for the network at its random initialization."""

    def all_columns(self) -> tuple[Column, ...]:
        """Return the columns, each followed by its standard error and by those of the untrained network, if any."""
        found: list[Column] = []
        for column in self.columns:
            for own in (column, column.untrained()) if self.untrained else (column,):
                found += [own, own.stderr()] if own.accuracy else [own]
        return tuple(found)
