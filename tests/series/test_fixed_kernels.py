"""Fixed kernels compute their formula, and what they are joined with stays what it was."""

from itertools import combinations

import numpy as np
import pytest
import torch

from limbeck.modalities.series import MODALITY
from limbeck.series.config import SeriesConfig, fit_to_series, kernel_dilations
from limbeck.series.data import SeriesData
from limbeck.series.fixed_kernels import FixedKernels, kernel_weights
from limbeck.series.network import DilatedEncoder
from tests.helpers.errors import raises
from tests.helpers.tiny_series import STEPS, waves


def config(data: SeriesData, features: int = 400) -> SeriesConfig:
    named = SeriesConfig(depth=4, hidden=6, dim=8, kernel_features=features)
    return fit_to_series(named, data.steps, *data.normalization()).value


def joined(data: SeriesData) -> tuple[DilatedEncoder, DilatedEncoder]:
    """Return a network with random weights, and the same with kernels."""
    torch.manual_seed(0)
    cfg = config(data)
    alone = MODALITY.build_encoder(cfg)
    found = MODALITY.completion(cfg, data)(alone)
    assert isinstance(found, DilatedEncoder)
    return alone.eval(), found.eval()


def test_a_feature_is_the_share_of_steps_above_a_threshold() -> None:
    data = waves(6)
    encoder = joined(data)[1]
    kernels, x = encoder.kernels, torch.from_numpy(data.values)
    assert kernels is not None
    z, present = encoder.normalized(x), encoder.present(x)
    found = kernels(z.mT, present)
    places, column = list(combinations(range(9), 3)), 0
    for number, dilation in enumerate(kernels.dilations):
        for j in range(kernels.thresholds.shape[2]):
            for k in (0, 17, 83):
                for row in (0, 2, 5):
                    total, count = 0.0, 0
                    for t in range(STEPS):
                        if not present[row, t]:
                            continue
                        output = 0.0
                        for i in range(9):
                            at = t + dilation * (i - 4)
                            if 0 <= at < STEPS:
                                value = float((z[row, at] * kernels.channels[number, k]).sum())
                                output += (2 if i in places[k] else -1) * value
                        over = (output - float(kernels.thresholds[number, k, j])) / float(kernels.ramps[number, k])
                        total, count = total + min(max(over + 0.5, 0.0), 1.0), count + 1
                    assert float(found[row, column + k]) == pytest.approx(total / count, abs=1e-4)
            column += 84
    assert column == kernels.dim == found.shape[1]


def test_thresholds_are_quantiles_of_the_training_series() -> None:
    data = waves(24)
    encoder, x = joined(data)[1], torch.from_numpy(data.values)
    kernels = encoder.kernels
    assert kernels is not None
    shares = kernels(encoder.normalized(x).mT, encoder.present(x))
    assert 0.4 < float(shares.mean()) < 0.6
    assert float(shares.mean(dim=0).min()) < 0.05 < 0.95 < float(shares.mean(dim=0).max())


def test_every_block_is_joined_and_keeps_its_own_features() -> None:
    data = waves(24)
    (alone, both), x = joined(data), torch.from_numpy(data.values)
    assert both.kernels is not None
    kernels = both.kernels.dim
    assert both.tap_dims == {1: 6 + kernels, 2: 6 + kernels, 3: 6 + kernels, 4: 8 + kernels}
    found, own = both(x, taps=both.taps), alone(x, taps=alone.taps)
    for tap in both.taps:
        width = alone.tap_dims[tap]
        torch.testing.assert_close(found.taps[tap][:, :width], own.taps[tap])
        spreads = [part.var(dim=0, correction=0).sum() for part in found.taps[tap].split([width, kernels], dim=1)]
        torch.testing.assert_close(*spreads)
        torch.testing.assert_close(both.cut(tap)(x).final, found.taps[tap])
    assert not any(parameter.requires_grad for parameter in both.kernels.parameters())


def test_missing_steps_count_for_nothing() -> None:
    data = waves(8)
    both, x = joined(data)[1], torch.from_numpy(data.values[1:2])
    longer = torch.cat([x, torch.full((1, 7, 2), torch.nan)], dim=1)
    torch.testing.assert_close(both(longer).final[:, 8:], both(x).final[:, 8:])  # of the kernels


def test_weights_sum_to_zero_and_dilations_span_the_series() -> None:
    weights = kernel_weights()
    assert weights.sum(dim=1).abs().max() == 0
    assert len(np.unique(weights.numpy(), axis=0)) == 84
    assert kernel_dilations(5) == (1,)
    assert kernel_dilations(1025)[-1] == 128
    assert len(kernel_dilations(1025)) == 8
    assert FixedKernels(config(waves(6), 2016)).dim == 2016


def test_fewer_features_than_kernels_are_refused() -> None:
    with raises("out-of-range", 50, 84):
        SeriesConfig(kernel_features=50)
