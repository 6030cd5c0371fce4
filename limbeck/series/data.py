"""Series in memory: values [N T C] with missing ones as NaN, labels, and what is remarkable about them."""

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32
from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError
from limbeck.core.text import first_names, plural


class SeriesData:
    """Series with their labels, checked; a `Dataset`.

    Series of unequal lengths end in NaN; a step is missing where any of its channels is.

    Args:
        values: [N T C], or [N T] for one channel; NaN is missing.
        labels: one per series, -1 where there is none; None: no series has one.
        label_names: names of the labels, by number.
        path: where the series are from; None if they are in memory.
        names: of the rows, for messages; by default their numbers.
        left_out: a sentence for every file or row of the source that is not used.

    Raises:
        UserError: the values are no series, not finite, or all equal; or a series has no step without a missing value.
    """

    def __init__(
        self,
        values: ArrayLike,
        labels: ArrayLike | None = None,
        label_names: Sequence[str] = (),
        path: Path | None = None,
        names: Sequence[str] = (),
        left_out: Sequence[str] = (),
    ) -> None:
        self.path, where = path, f" in '{path}'" if path else ""
        self.values = _as_values(values, where)
        self.labels: NDArray[np.int64] = (
            np.full(len(self.values), -1, np.int64) if labels is None else np.asarray(labels, np.int64)
        )
        self.label_names = list(label_names)
        self.names = list(names) or [str(row) for row in range(len(self.values))]
        self.left_out = list(left_out)
        if len(self.labels) != len(self.values):
            raise UserError(
                f"there are {len(self.values):,} series{where} and {len(self.labels):,} labels: give one label per "
                "series",
                code="bad-labels",
            )
        self._check(where)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labeled(self) -> bool:
        """Whether every series has a label."""
        return bool(len(self.label_names) and (self.labels >= 0).all())

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return self.values.shape[2]

    @property
    def steps(self) -> int:
        """Steps of the longest series, T."""
        return self.values.shape[1]

    @cached_property
    def digest(self) -> str:
        """Hash of values and labels."""
        found = hashlib.sha256(str(self.values.shape).encode())
        for array in (self.values, self.labels):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @cached_property
    def present(self) -> Bool[np.ndarray, "N T"]:
        """Which steps have no missing value."""
        return ~np.isnan(self.values).any(axis=2)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of every series up to its last value, [N]."""
        some = ~np.isnan(self.values).all(axis=2)
        return self.steps - some[:, ::-1].argmax(axis=1).astype(np.int64)

    @cached_property
    def constant(self) -> Bool[np.ndarray, " N"]:
        """Which series have the same value at all steps, in every channel."""
        return _spread(self.values, axis=1).max(axis=1) == 0

    def normalization(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of every channel; the deviation of a constant channel is 1."""
        flat = self.values.reshape(-1, self.channels).astype(np.float64)
        std = np.nanstd(flat, axis=0)
        return np.nanmean(flat, axis=0).tolist(), np.where(std > 0, std, 1).tolist()

    def summary(self) -> str:
        """Return in a sentence what the data are."""
        lengths = self.lengths
        steps = f"{lengths.min():,} to {lengths.max():,} steps" if lengths.min() < lengths.max() else None
        steps = steps or plural(self.steps, "step")
        classes = f", {plural(len(self.label_names), 'class', 'classes')}" if self.labeled else ", without labels"
        return f"{len(self):,} series of {steps} and {plural(self.channels, 'channel')}{classes}"

    def classes(self) -> list[str]:
        """Return a sentence with the number of series of every class; none without labels."""
        if not self.labeled:
            return []
        counts = np.bincount(self.labels, minlength=len(self.label_names))
        return ["classes: " + first_names([f"{n} ({c:,})" for n, c in zip(self.label_names, counts, strict=True)], 20)]

    def remarks(self) -> list[str]:
        """Return a sentence for everything that may be a mistake: unusable rows, missing values, constants, copies."""
        inside = np.arange(self.steps) < self.lengths[:, None]
        missing = np.isnan(self.values).any(axis=2) & inside
        rows = {
            "has missing values": missing.any(axis=1),
            "has the same value at all steps": self.constant,
            "is a copy of an earlier one": self._copies(),
        }
        found = [f"{_series(mask.sum(), text)}: {self._listed(mask)}" for text, mask in rows.items() if mask.any()]
        return [*found, *self.omissions()]

    def omissions(self) -> list[str]:
        """Return a sentence on what was left out, if anything was."""
        some = f"{len(self.left_out):,} series left out: {first_names(self.left_out, separator='; ')}"
        return [some] if self.left_out else []

    def _copies(self) -> Bool[np.ndarray, " N"]:
        flat = np.nan_to_num(self.values.reshape(len(self), -1), nan=float(np.finfo(np.float32).max))
        return ~np.isin(np.arange(len(self)), np.unique(flat, axis=0, return_index=True)[1])

    def _listed(self, rows: Bool[np.ndarray, " N"]) -> str:
        return first_names([self.names[row] for row in np.flatnonzero(rows)])

    def _check(self, where: str) -> None:
        if np.isinf(self.values).any():
            row = int(np.flatnonzero(np.isinf(self.values).any(axis=(1, 2)))[0])
            raise UserError(
                f"series {self.names[row]}{where} has infinite values: replace them, or leave them empty",
                code="series-not-finite",
            )
        empty = np.asarray(~self.present.any(axis=1))
        if empty.any():
            raise UserError(
                f"{_series(empty.sum(), 'has no step with all of its values')}{where} ({self._listed(empty)}): leave "
                "them out, or leave out the channel that is missing",
                code="series-all-missing",
            )
        if self.constant.all():
            value = np.nanmean(self.values[0])
            raise UserError(
                f"every series{where} has the same value at all steps (the first one {value:g}): there is nothing to "
                "learn, so check how the values were read",
                code="series-constant",
            )


def _as_values(values: ArrayLike, where: str) -> Float32[np.ndarray, "N T C"]:
    try:
        found = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"the values{where} are not numbers of one shape: give [N T C]", code="not-series") from error
    found = found[:, :, None] if found.ndim == 2 else found
    if found.ndim != 3 or not found.size:
        raise UserError(
            f"the values{where} have the shape {found.shape}: series are [N T C], or [N T] for one channel",
            code="not-series",
        )
    return found


def _spread(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    """Return maximum minus minimum without missing values; 0 where all are missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of slices without values
        return np.nan_to_num(np.nanmax(values, axis=axis) - np.nanmin(values, axis=axis))


def _series(count: int, text: str) -> str:
    """Return a count with a sentence about one series: "1 series has ...", "3 series have ..."."""
    verb, rest = text.split(" ", 1)
    return f"{count:,} series {verb if count == 1 else {'has': 'have', 'is': 'are'}[verb]} {rest}"
