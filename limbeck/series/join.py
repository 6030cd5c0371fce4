"""Join fixed kernels, fitted to the series of a run, with the features of its trained network."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.types import Encoder
from limbeck.features.extract import extract
from limbeck.models.eval_mode import eval_mode
from limbeck.series.config import SeriesConfig
from limbeck.series.data import SeriesData
from limbeck.series.fixed_kernels import FixedKernels
from limbeck.series.network import DilatedEncoder

ROWS = 256
"""Series that thresholds and scales are fitted to, spread over all of them."""


def fit_join(data: SeriesData, cfg: SeriesConfig) -> Callable[[Encoder], DilatedEncoder]:
    """Fit fixed kernels to series; return what joins them with the features of a trained encoder, at every block."""
    rows = np.unique(np.linspace(0, len(data) - 1, ROWS).round().astype(np.int64))
    values = torch.from_numpy(data[rows])
    present = ~values.isnan().any(dim=2)
    normalized = ((values - torch.tensor(cfg.mean)) / torch.tensor(cfg.std)).nan_to_num().mT
    kernels = FixedKernels(cfg)
    kernels.fit(normalized, present)
    own = _spread(kernels(normalized, present))

    def join(encoder: Encoder) -> DilatedEncoder:
        assert isinstance(encoder, DilatedEncoder), "the encoder of a run on series is what `build_encoder` built"
        device = encoder.mean.device
        with eval_mode(encoder):
            taps = extract(encoder, lambda part: values[part].to(device), np.arange(len(values)), device=device)
        kernels.scales[: len(encoder.taps)] = torch.stack([_spread(taps[tap].cpu()) / own for tap in encoder.taps])
        return encoder.with_kernels(cfg.kernel_features, kernels)

    return join


def _spread(features: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return the root of the mean square distance from the mean, which both parts of a vector get in common."""
    return (features - features.mean(dim=0)).square().sum(dim=1).mean().sqrt().clamp(min=1e-6)
