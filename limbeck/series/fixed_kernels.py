"""Fixed convolution kernels: features of series that need no training, after MiniRocket.

Dempster, Schmidt and Webb, *MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series Classification*,
KDD 2021, from the formulas of the paper. The 84 kernels have nine weights, three of which are 2 and the others -1. Each
is applied at several dilations to a drawn subset of the channels, and a feature is the share of the steps whose output
is above a threshold, which is a quantile of the outputs on the training series. Here a step counts in part where its
output is within a tenth of a standard deviation around the threshold: the feature is then continuous, so that an export
can be compared with it.
"""

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.series.config import KERNELS, LENGTH, SeriesConfig

MOST_CHANNELS = 9  # that one kernel joins
RAMP = 0.1  # standard deviations of an output around a threshold in which a step counts in part
GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 spread the quantiles evenly


class FixedKernels(nn.Module):
    """Map normalized series [B C T] to shares of steps above thresholds [B dim]; `fit` draws channels and thresholds.

    Args:
        cfg: the network that they are joined with: channels, dilations and the number of features.
    """

    weights: Float[Tensor, "84 1 9"]
    channels: Float[Tensor, "dilations 84 C"]
    thresholds: Float[Tensor, "dilations 84 thresholds"]
    ramps: Float[Tensor, "dilations 84"]
    scales: Float[Tensor, " L"]

    def __init__(self, cfg: SeriesConfig) -> None:
        super().__init__()
        assert cfg.channels is not None, "`fit_to_series` takes the channels of the data"
        assert cfg.depth is not None, "as above"
        self.dilations = cfg.dilations
        count = len(cfg.dilations)
        each = max(1, cfg.kernel_features // (KERNELS * count))
        self.dim = count * KERNELS * each
        self.register_buffer("weights", kernel_weights()[:, None], persistent=False)
        self.register_buffer("channels", torch.zeros(count, KERNELS, cfg.channels))
        self.register_buffer("thresholds", torch.zeros(count, KERNELS, each))
        self.register_buffer("ramps", torch.ones(count, KERNELS))
        self.register_buffer("scales", torch.ones(cfg.depth))

    @torch.no_grad()
    def fit(self, series: Float[Tensor, "B C T"], present: Bool[Tensor, "B T"]) -> None:
        """Draw the channels of every kernel, and take thresholds and ramps from its outputs on normalized series."""
        generator, (count, _, each) = np.random.default_rng(0), self.thresholds.shape
        places = torch.arange(1, KERNELS * each + 1, dtype=torch.float64).mul(GOLDEN).remainder(1).view(KERNELS, each)
        for number in range(count):
            self.channels[number] = _drawn_channels(generator, self.channels.shape[2])
            outputs = self._outputs(series, number).transpose(0, 1)[:, present].double()
            ordered = outputs.sort(dim=1).values
            ranks = (places * (ordered.shape[1] - 1)).round().long()
            self.thresholds[number] = ordered.gather(1, ranks).float()
            self.ramps[number] = (RAMP * outputs.std(dim=1, correction=0)).clamp(min=1e-3).float()

    @torch.no_grad()
    def forward(self, series: Float[Tensor, "B C T"], present: Bool[Tensor, "B T"]) -> Float[Tensor, "B F"]:
        """Return the share of the present steps above every threshold, in float32."""
        steps, weight = present.sum(dim=1, keepdim=True), present[:, None].to(torch.float32)
        found = []
        for number in range(len(self.dilations)):
            outputs = self._outputs(series.float(), number)
            for threshold in self.thresholds[number].unbind(dim=1):
                above = ((outputs - threshold[:, None]) / self.ramps[number][:, None] + 0.5).clamp(0, 1)
                found.append((above * weight).sum(dim=2) / steps)
        return torch.cat(found, dim=1)

    def _outputs(self, series: Float[Tensor, "B C T"], number: int) -> Float[Tensor, "B 84 T"]:
        """Convolve with all kernels at one dilation; there are zeros beyond the ends."""
        dilation = self.dilations[number]
        weight = self.channels[number][:, :, None] * self.weights
        return F.conv1d(series, weight, padding=dilation * (LENGTH // 2), dilation=dilation)


def kernel_weights() -> Float[Tensor, "84 9"]:
    """Return the kernels: 2 at three of nine places, -1 at the others."""
    weights = torch.full((KERNELS, LENGTH), -1.0)
    for row, places in zip(weights, combinations(range(LENGTH), 3), strict=True):
        row[list(places)] = 2.0
    return weights


def _drawn_channels(generator: np.random.Generator, channels: int) -> Float[Tensor, "84 C"]:
    """Return which channels each kernel joins: 1 to 9 of them, few more often than many."""
    found = torch.zeros(KERNELS, channels)
    for row in found:
        count = int(2 ** generator.uniform(0, np.log2(min(channels, MOST_CHANNELS) + 1)))
        row[generator.choice(channels, count, replace=False)] = 1.0
    return found
