"""Series in memory: values [N T C] with missing ones as NaN, labels, and what is remarkable about them."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError
from limbeck.core.text import first_names, plural
from limbeck.series.slices import SeriesSlices

BLOCK = 1_000_000
"""Values that are looked at at once, so that the copies of slices stay small."""


class SeriesData:
    """Series with their labels, checked; a `Dataset`.

    Series of unequal lengths end in NaN; a step is missing where any of its channels is.

    Args:
        values: [N T C], or [N T] for one channel; NaN is missing. Slices of longer series are copied a few at a time.
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
        values: ArrayLike | SeriesSlices,
        labels: ArrayLike | None = None,
        label_names: Sequence[str] = (),
        path: Path | None = None,
        names: Sequence[str] = (),
        left_out: Sequence[str] = (),
    ) -> None:
        self.path, where = path, f" in '{path}'" if path else ""
        self._values = values if isinstance(values, SeriesSlices) else _as_values(values, where)
        self.labels: NDArray[np.int64] = (
            np.full(len(self), -1, np.int64) if labels is None else np.asarray(labels, np.int64)
        )
        self.label_names = list(label_names)
        self.names = list(names) or [str(row) for row in range(len(self))]
        self.left_out = list(left_out)
        if len(self.labels) != len(self):
            raise UserError(
                f"there are {len(self):,} series{where} and {len(self.labels):,} labels: give one label per series",
                code="bad-labels",
            )
        self._check(where)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Float32[np.ndarray, "B T C"]:
        """Return the values of some series."""
        return self._values[rows]

    @property
    def values(self) -> Float32[np.ndarray, "N T C"]:
        """All values; of slices a copy, which may be large."""
        return np.asarray(self._values)

    @property
    def labeled(self) -> bool:
        """Whether every series has a label."""
        return bool(len(self.label_names) and (self.labels >= 0).all())

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return self._values.shape[2]

    @property
    def steps(self) -> int:
        """Steps of the longest series, T."""
        return self._values.shape[1]

    def blocks(self) -> Iterator[Float32[np.ndarray, "B T C"]]:
        """Yield the values, as many series at once as `BLOCK` allows."""
        count = max(1, BLOCK // (self.steps * self.channels))
        for start in range(0, len(self), count):
            yield self[start : start + count]

    @cached_property
    def digest(self) -> str:
        """Hash of values and labels."""
        found = hashlib.sha256(str(self._values.shape).encode())
        for array in chain(self.blocks(), [self.labels]):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @property
    def present(self) -> Bool[np.ndarray, "N T"]:
        """Which steps have no missing value."""
        return self._of_blocks(_present)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of every series up to its last value, [N]."""
        return self._of_blocks(_lengths)

    @cached_property
    def constant(self) -> Bool[np.ndarray, " N"]:
        """Which series have the same value at all steps, in every channel."""
        return self._of_blocks(lambda values: _spread(values, axis=1).max(axis=1) == 0)

    def normalization(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of every channel; the deviation of a constant channel is 1."""
        count, total = (sum(parts) for parts in zip(*map(_count_and_sum, self.blocks()), strict=True))
        mean = total / count
        squares = sum(np.nansum((block - mean) ** 2, axis=(0, 1)) for block in self.blocks())
        std = np.sqrt(squares / count)
        return mean.tolist(), np.where(std > 0, std, 1).tolist()

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
        rows = {
            "has missing values": self._of_blocks(_has_gaps),
            "has the same value at all steps": self.constant,
            "is a copy of an earlier one": self._copies(),
        }
        found = [f"{_series(mask.sum(), text)}: {self._listed(mask)}" for text, mask in rows.items() if mask.any()]
        return [*found, *self.omissions()]

    def omissions(self) -> list[str]:
        """Return a sentence on what was left out, if anything was."""
        some = f"{len(self.left_out):,} series left out: {first_names(self.left_out, separator='; ')}"
        return [some] if self.left_out else []

    def _of_blocks(self, function: Callable[[NDArray[np.float32]], NDArray[Any]]) -> NDArray[Any]:
        """Return the results of a function for every series."""
        return np.concatenate([function(block) for block in self.blocks()])

    def _copies(self) -> Bool[np.ndarray, " N"]:
        hashes = self._of_blocks(_hashes)
        return ~np.isin(np.arange(len(self)), np.unique(hashes, return_index=True)[1])

    def _listed(self, rows: Bool[np.ndarray, " N"]) -> str:
        return first_names([self.names[row] for row in np.flatnonzero(rows)])

    def _check(self, where: str) -> None:
        infinite = self._of_blocks(lambda values: np.asarray(np.isinf(values).any(axis=(1, 2))))
        if infinite.any():
            row = int(infinite.argmax())
            raise UserError(
                f"series {self.names[row]}{where} has infinite values: replace them, or leave them empty",
                code="series-not-finite",
            )
        empty = self._of_blocks(lambda values: np.asarray(~_present(values).any(axis=1)))
        if empty.any():
            raise UserError(
                f"{_series(empty.sum(), 'has no step with all of its values')}{where} ({self._listed(empty)}): leave "
                "them out, or leave out the channel that is missing",
                code="series-all-missing",
            )
        if self.constant.all():
            value = np.nanmean(self[:1])
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


def _present(values: Float32[np.ndarray, "B T C"]) -> Bool[np.ndarray, "B T"]:
    return np.asarray(~np.isnan(values).any(axis=2))


def _lengths(values: Float32[np.ndarray, "B T C"]) -> Int64[np.ndarray, " B"]:
    some = ~np.isnan(values).all(axis=2)
    return np.asarray(values.shape[1] - some[:, ::-1].argmax(axis=1), np.int64)


def _has_gaps(values: Float32[np.ndarray, "B T C"]) -> Bool[np.ndarray, " B"]:
    """Return which series have a missing value before their last one."""
    inside = np.arange(values.shape[1]) < _lengths(values)[:, None]
    return np.asarray((~_present(values) & inside).any(axis=1))


def _count_and_sum(values: Float32[np.ndarray, "B T C"]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return of every channel how many values there are, and their sum."""
    return (~np.isnan(values)).sum(axis=(0, 1)), np.nansum(values, axis=(0, 1), dtype=np.float64)


def _hashes(values: Float32[np.ndarray, "B T C"]) -> NDArray[np.bytes_]:
    """Return a hash of every series, in hexadecimal digits: all missing values are one, and so are both zeros."""
    plain = np.where(np.isnan(values), np.float32(np.nan), values) + np.float32(0)
    return np.array([hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in plain], "S32")


def _spread(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    """Return maximum minus minimum without missing values; 0 where all are missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of slices without values
        return np.nan_to_num(np.nanmax(values, axis=axis) - np.nanmin(values, axis=axis))


def _series(count: int, text: str) -> str:
    """Return a count with a sentence about one series: "1 series has ...", "3 series have ..."."""
    verb, rest = text.split(" ", 1)
    return f"{count:,} series {verb if count == 1 else {'has': 'have', 'is': 'are'}[verb]} {rest}"
