"""Windows of long recordings as series: `[start, stop)` of so many steps, one every `stride` steps."""

import logging

import numpy as np
from jaxtyping import Bool, Int64

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.series.config import SeriesConfig
from limbeck.series.data import SeriesData
from limbeck.series.slices import SeriesSlices

logger = logging.getLogger(__name__)


def cut_windows(data: SeriesData, window: int, stride: int | None = None) -> SeriesData:
    """Return the windows of all recordings as series `NAME[start:stop]`, which have the labels of their recordings.

    Missing values are kept. What is left out has a sentence in `left_out`: the rest after the last window of a
    recording, and windows in which no step has all of its values. The recordings are held once; windows are copied from
    them when they are read.

    Args:
        data: recordings.
        window: steps, at least 2.
        stride: steps from one start to the next, at least 1; None: a window.

    Raises:
        UserError: the window is longer than every recording, or all windows are empty; or as `SeriesData`.
    """
    stride, lengths = stride or window, data.lengths
    longest = int(lengths.argmax())
    if lengths[longest] < window:
        raise UserError(
            f"window is {window:,} and the longest recording, {data.names[longest]}, has {lengths[longest]:,} steps: "
            "choose at most that, or leave the window out",
            code="window-too-long",
        )
    counts = np.maximum((lengths - window) // stride + 1, 0)
    rows = np.repeat(np.arange(len(data)), counts)
    starts = (np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)) * stride
    names = [f"{data.names[row]}[{start}:{start + window}]" for row, start in zip(rows, starts, strict=True)]
    usable = _with_whole_steps(data.present, rows, starts, window)
    empty = [f"{names[row]} has no step with all of its values" for row in np.flatnonzero(~usable)]
    left_out = [*data.left_out, *_incomplete(data, counts, window, stride), *empty]
    if not usable.any():
        raise UserError(
            f"no window of {window:,} steps has a step with all of its values ({names[0]}): take longer windows",
            code="series-all-missing",
        )
    if not usable.all():
        rows, starts, names = rows[usable], starts[usable], [names[row] for row in np.flatnonzero(usable)]
    values = SeriesSlices(data.values, rows, starts, window)
    return SeriesData(values, data.labels[rows], data.label_names, data.path, names, left_out)


def describe_windows(data: SeriesData, cfg: SeriesConfig) -> str:
    """Return in a sentence how many windows the data are, as `cfg` has them cut."""
    assert cfg.window, "there are windows"
    return f"{plural(len(data), 'window')} of {cfg.window:,} steps, one every {cfg.stride or cfg.window:,}"


def as_trained(data: SeriesData, cfg: SeriesConfig) -> SeriesData:
    """Return windows like those that an encoder was trained on; series no longer than a window are taken whole."""
    if cfg.window is None or data.steps <= cfg.window:
        return data
    found = cut_windows(data, cfg.window, cfg.stride)
    for sentence in (f"{describe_windows(found, cfg)}, as in the training", *found.omissions()):
        logger.info("%s%s", f"'{data.path}': " if data.path else "", sentence)
    return found


def _with_whole_steps(
    present: Bool[np.ndarray, "N T"], rows: Int64[np.ndarray, " K"], starts: Int64[np.ndarray, " K"], window: int
) -> Bool[np.ndarray, " K"]:
    """Return which windows have a step without a missing value."""
    before = np.pad(present.cumsum(axis=1), ((0, 0), (1, 0)))
    return np.asarray(before[rows, starts + window] > before[rows, starts])


def _incomplete(data: SeriesData, counts: Int64[np.ndarray, " N"], window: int, stride: int) -> list[str]:
    """Return a sentence for every recording with steps after its last window in which another one begins."""
    found = []
    for name, length, count in zip(data.names, data.lengths.tolist(), counts.tolist(), strict=True):
        start, seen = count * stride, (count - 1) * stride + window if count else 0
        if max(start, seen) < length:
            found.append(f"{name}[{start}:{length}] is no whole window ({length - start:,} of {window:,} steps)")
    return found
