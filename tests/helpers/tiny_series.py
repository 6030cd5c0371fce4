"""Small series, their encoder and batches of them, for laws and runs."""

import numpy as np
import torch

from limbeck.core.types import Batch
from limbeck.methods import MethodConfig
from limbeck.modalities.series import MODALITY
from limbeck.series.config import SeriesConfig, fit_to_series
from limbeck.series.data import SeriesData
from limbeck.series.loader import SeriesLoader
from limbeck.series.network import DilatedEncoder
from limbeck.series.views import SeriesView

STEPS, CHANNELS = 20, 2
CPU = torch.device("cpu")


def waves(count: int, seed: int = 0, steps: int = STEPS) -> SeriesData:
    """Return series of two classes of sine waves, of any phase, with noise; every fourth one has missing steps."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    frequency, phase = np.where(labels, 1.2, 0.3)[:, None, None], rng.uniform(0, 6, (count, 1, CHANNELS))
    values = np.sin(frequency * np.arange(steps)[:, None] + phase) + 0.05 * rng.standard_normal(
        (count, steps, CHANNELS)
    )
    values[::4, -3:] = np.nan
    values[2::4, 5, 0] = np.nan
    return SeriesData(values, labels, ["slow", "fast"])


def tiny_encoder(depth: int = 4) -> DilatedEncoder:
    """Build a network of width 6 for them."""
    cfg = SeriesConfig(depth=depth, hidden=6, dim=8, kernel_features=0)
    return DilatedEncoder(fit_to_series(cfg, STEPS, (0.1, -0.2), (1.0, 0.8)).value)


def series_views(config: MethodConfig) -> tuple[SeriesView, ...]:
    """Return the views of a method."""
    return MODALITY.make_views(config, tiny_encoder().cfg)


def series_batch(config: MethodConfig, count: int, dtype: torch.dtype = torch.float32) -> Batch:
    """Return a batch with the views and masks of a method."""
    data = waves(count)
    loader = SeriesLoader(data, series_views(config), count, seed=0, device=CPU)
    batch = loader.fixed_batch(np.arange(count))
    return batch._replace(views=tuple(view.to(dtype) for view in batch.views))
