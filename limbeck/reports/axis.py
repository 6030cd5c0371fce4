"""Axes of a chart: where values are on it, and which of them are written next to it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

STEPS = (1, 2, 5, 10)  # a grid's step is one of these times a power of ten


class Axis(NamedTuple):
    """A range of values, and the ticks in it."""

    low: float
    high: float
    ticks: list[float]
    labels: list[str]

    @property
    def marks(self) -> list[tuple[float, str]]:
        """The place and the label of every tick."""
        return [(self.place(tick), label) for tick, label in zip(self.ticks, self.labels, strict=True)]

    def place(self, value: float) -> float:
        """Return the position of a value, in % of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def value_axis(values: Sequence[float], count: int = 4, *, zero: bool = False) -> Axis:
    """Return an axis that begins and ends with a tick; with `zero` it includes 0."""
    low, high = min([*values, 0.0] if zero else values), max(values)
    if low == high:
        low, high = min(0.0, low), max(0.0, high) or float(not low)
    step = _step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return _axis(first * step, last * step, [number * step for number in range(first, last + 1)], step)


def range_axis(values: Sequence[float], count: int = 6) -> Axis:
    """Return an axis from the smallest to the largest value, with the ticks that lie between."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = _step((high - low) / count)
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return _axis(low, high, [number * step for number in numbers], step)


def depth_axis(depths: Sequence[int], count: int = 12) -> Axis:
    """Return an axis of depths with room at both ends; where there are many, some are not written."""
    shown = [depth for depth in depths if (depths[-1] - depth) % math.ceil(len(depths) / count) == 0]
    room = 0.06 * (depths[-1] - depths[0]) or 0.5
    return _axis(depths[0] - room, depths[-1] + room, [float(depth) for depth in shown], 1)


def number(value: float, step: float) -> str:
    """Return a value with as many decimals as a grid of `step` needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 4:
        digits = math.floor(math.log10(abs(value)) + 1e-9) + decimals if value else 0
        return f"{value:.{max(digits, 0)}e}" if value else "0"
    return f"{value:,.{decimals}f}"


def _step(least: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in STEPS if factor * power >= least * (1 - 1e-9))


def _axis(low: float, high: float, ticks: Sequence[float], step: float) -> Axis:
    return Axis(low, high, list(ticks), [number(tick, step) for tick in ticks])
