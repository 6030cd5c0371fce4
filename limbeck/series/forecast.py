"""Forecast recordings from the features of an encoder, and from the raw values of the same window."""

from collections.abc import Callable
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from limbeck.classification.forecasting import forecast, pairs
from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.metric import Values
from limbeck.features.extract import extract_matrix
from limbeck.series.data import SeriesData
from limbeck.series.network import DilatedEncoder

WINDOW = 201  # steps that the features of a step are of: it and those before it
DROPPED = WINDOW - 1  # steps at the beginning, whose windows are not full
VALIDATION = 0.25  # share of the training steps, the last ones, that choose the penalty
Features = Callable[[Tensor], dict[int, Tensor]]
"""From windows [B T C] to the features of their last step, by depth."""


class Recordings(NamedTuple):
    """Recordings in two parts that follow each other, in units of the channels' deviations in the first."""

    raw: Float32[np.ndarray, "N T C"]
    scaled: Float32[np.ndarray, "N T C"]
    ends: tuple[int, int, int]  # steps of the training part, of it and the validation part, of all
    center: Float32[np.ndarray, " C"]
    spread: Float32[np.ndarray, " C"]

    @classmethod
    def of(cls, train: SeriesData, test: SeriesData, horizons: tuple[int, ...]) -> "Recordings":
        """Join the recordings of both sources.

        Raises:
            UserError: they do not continue each other, have missing values, or are too short for the horizons.
        """
        if (len(train), train.channels) != (len(test), test.channels):
            raise UserError(
                f"a forecast continues the training recordings, and there are {plural(len(train), 'recording')} of "
                f"{plural(train.channels, 'channel')} to fit on and {len(test)} of {test.channels} to score: give both "
                "parts of the same ones",
                code="recordings-differ",
            )
        raw = np.concatenate([train.values, test.values], axis=1)
        if not (train.present.all() and test.present.all()):
            raise UserError(
                f"{int(np.isnan(raw).any(axis=2).sum()):,} steps of the recordings have missing values, which cannot "
                "be forecast: fill them, or leave these recordings out",
                code="recordings-missing",
            )
        first = train.steps - int(VALIDATION * train.steps)
        shortest = min(first - DROPPED, train.steps - first, test.steps)
        if shortest <= max(horizons):
            raise UserError(
                f"{train.steps:,} training and {test.steps:,} test steps are too few for a horizon of {max(horizons)}: "
                f"after the first {DROPPED} steps and in each part, more steps than that are needed",
                code="recordings-too-short",
            )
        center, spread = raw[:, :first].mean(axis=(0, 1)), raw[:, :first].std(axis=(0, 1))
        spread = np.where(spread > 0, spread, 1).astype(np.float32)
        return cls(raw, (raw - center) / spread, (first, train.steps, raw.shape[1]), center, spread)

    def windows(self, rows: np.ndarray) -> Float32[np.ndarray, "B 201 C"]:
        """Return the steps up to each of the steps `rows`, counted over all recordings; missing before the start."""
        which, at = np.divmod(rows, self.raw.shape[1])
        steps = at[:, None] + np.arange(-DROPPED, 1)
        found = self.raw[which[:, None], np.maximum(steps, 0)]
        return np.where(steps[:, :, None] < 0, np.float32(np.nan), found)


def forecast_errors(
    recordings: Recordings, features: Features, dims: dict[int, int], data: EvalData
) -> dict[int, Values]:
    """Return the errors at every depth of `dims`, means over the horizons of the settings."""
    count, steps, _ = recordings.raw.shape
    banks = extract_matrix(
        features,
        lambda rows: torch.from_numpy(recordings.windows(rows)).to(data.device),
        np.arange(count * steps),
        dims,
        device=data.device,
        batch_size=data.cfg.batch_size,
        memory=int(data.cfg.memory_gib * 2**30),
        show=data.description("windows of recordings"),
        unit="windows",
    )
    return {depth: _errors(recordings, bank.view(count, steps, -1).cpu(), data) for depth, bank in banks.items()}


def _errors(recordings: Recordings, features: Tensor, data: EvalData) -> Values:
    values, found = torch.from_numpy(recordings.scaled), []
    first, second, last = recordings.ends
    for horizon in data.cfg.forecast:
        parts = [(0, first, DROPPED), (first, second, 0), (second, last, 0)]
        found.append(forecast(*(pairs(features[:, a:b], values[:, a:b], horizon, drop) for a, b, drop in parts)))
    return {"forecast_mse": mean(fit.mse for fit in found), "forecast_mae": mean(fit.mae for fit in found)}


def last_step_features(encoder: DilatedEncoder) -> Features:
    """Return the features of the last step of windows: every block's, and the fixed kernels' shares of the window."""

    def features(windows: Tensor) -> dict[int, Tensor]:
        with torch.inference_mode():
            found = encoder(windows, taps=encoder.taps, feature_maps=True)
        widths = encoder.map_dims
        return {
            tap: torch.cat([found.feature_maps[tap][:, :, -1], found.taps[tap][:, widths[tap] :]], dim=1)
            for tap in encoder.taps
        }

    return features


def raw_windows(recordings: Recordings) -> tuple[Features, dict[int, int]]:
    """Return the scaled values of a window as features, 0 before the start, and their number."""

    def features(windows: Tensor) -> dict[int, Tensor]:
        center, spread = (torch.from_numpy(each).to(windows.device) for each in (recordings.center, recordings.spread))
        return {0: ((windows - center) / spread).nan_to_num().flatten(1)}

    return features, {0: WINDOW * recordings.raw.shape[2]}
