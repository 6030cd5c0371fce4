"""Random views of series. Every number is a hash of (seed, epoch, view, row), as for images."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from numpy.typing import NDArray
from scipy.special import ndtri

from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.data.augment.span_mask import SpanMask
from limbeck.data.sampling import NetworkView
from limbeck.series.masks import hidden_steps

NOISE, SPANS = 1 << 20, 1 << 21  # added to the number of a view: draws of their own for the noise and the spans
_LENGTH, _START, _SCALE, _WINDOW = range(4)  # which of the uniform numbers of a series decides what; append only
_COUNT = 4
FEWEST = 2  # steps that a crop leaves


@dataclass(frozen=True, kw_only=True)
class SeriesView(NetworkView):
    """A random view of a series; strengths of 0 change nothing."""

    jitter: float = 0.0
    """Standard deviation of noise on every value, in deviations of the channel (Um et al., ICMI 2017)."""
    scaling: float = 0.0
    """Every series is multiplied by a factor in [1 - scaling, 1 + scaling], about the channel's mean (Um et al.)."""
    crop: tuple[float, float] = (1.0, 1.0)
    """Share of the steps that a window has (window slicing: Le Guennec, Malinowski and Tavenard, AALTD 2016)."""
    time_mask: float = 0.0
    """Longest share of the steps that is hidden in one piece (SpecAugment: Park et al., Interspeech 2019)."""
    channel_drop: float = 0.0
    """Probability of a channel to be replaced by its mean; one of them always stays (SpecAugment's frequency masks)."""
    spans: SpanMask | None = None
    """Steps to be hidden by the method: they stay in the view and are marked in the mask of the batch."""


class DrawnView(NamedTuple):
    """Views of series and which steps the method has to hide."""

    values: Float32[np.ndarray, "B T C"]
    mask: Bool[np.ndarray, "B T"] | None


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Mean and standard deviation of every channel, [C]."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def draw_view(
    view: SeriesView,
    number: int,
    values: Float32[np.ndarray, "B T C"],
    rows: NDArray[np.int64],
    how: Normalization,
    *,
    seed: int,
    epoch: int,
) -> DrawnView:
    """Return view `number` of the series `rows` [B] with these `values`; missing values stay missing."""
    _, steps, channels = values.shape
    u = hash_uniforms(seed, epoch, number, rows, _COUNT + channels + 1)
    found = values
    if view.scaling:
        factor = 1 + view.scaling * (2 * u[:, _SCALE] - 1)
        found = how.mean + (found - how.mean) * factor[:, None, None]
    if view.jitter:
        noise = ndtri(hash_uniforms(seed, epoch, NOISE + number, rows, steps * channels) + 2.0**-54)
        found = found + view.jitter * how.std * noise.reshape(values.shape)
    if view.channel_drop and channels > 1:
        found = np.where(_dropped(view.channel_drop, u[:, _COUNT:])[:, None, :], how.mean, found)
    found = np.where(np.isnan(values), np.nan, found)
    present = ~np.isnan(values).any(axis=2)
    inside = _window(view.crop, u, present) & ~_masked_piece(view.time_mask, u, steps)
    leaves_some = (inside & present).sum(axis=1) >= np.minimum(FEWEST, present.sum(axis=1))
    found = np.where((inside | ~leaves_some[:, None])[:, :, None], found, np.nan)
    if view.spans is None:
        return DrawnView(found.astype(np.float32), None)
    span = view.spans.steps_of_span(steps)
    uniforms = hash_uniforms(seed, epoch, SPANS + number, rows, view.spans.spans(steps) + 1)
    return DrawnView(found.astype(np.float32), hidden_steps(uniforms, ~np.isnan(found).any(axis=2), span))


def _window(
    crop: tuple[float, float], u: Float[np.ndarray, "B _"], present: Bool[np.ndarray, "B T"]
) -> Bool[np.ndarray, "B T"]:
    """Return the steps of a random window within each series, whatever its length."""
    least, most = crop
    steps = present.shape[1]
    length = steps - present[:, ::-1].argmax(axis=1)
    size = np.maximum(np.rint(length * (least + (most - least) * u[:, _LENGTH])), FEWEST)
    start = np.floor(u[:, _START] * (np.maximum(length - size, 0) + 1))
    at = np.arange(steps)
    return (start[:, None] <= at) & (at < (start + size)[:, None])


def _masked_piece(share: float, u: Float[np.ndarray, "B _"], steps: int) -> Bool[np.ndarray, "B T"]:
    """Return the steps of one piece of up to `share` of the steps: its length and place are from two numbers."""
    size = np.floor(share * steps * u[:, _WINDOW])
    start = np.floor(u[:, -1] * (steps - size + 1))
    at = np.arange(steps)
    return (start[:, None] <= at) & (at < (start + size)[:, None])


def _dropped(probability: float, u: Float[np.ndarray, "B channels_and_1"]) -> Bool[np.ndarray, "B C"]:
    """Return the channels that are dropped; the one with the largest number never is."""
    draws = u[:, :-1]
    return (draws < probability) & (draws < draws.max(axis=1, keepdims=True))


VIEWS = {
    "whole": SeriesView(),
    "noisy-crops": SeriesView(jitter=0.1, crop=(0.5, 1.0)),
    "strong-crops": SeriesView(jitter=0.1, scaling=0.1, crop=(0.5, 1.0), time_mask=0.2, channel_drop=0.1),
}
"""The strengths that `--method.views` names for series."""
