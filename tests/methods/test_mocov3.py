"""MoCo v3: the factor 2 tau, negatives from the EMA encoder, norms at the end of the heads."""

import math

import torch
from torch import nn

from limbeck.methods.config.mocov3 import MoCoV3Config
from limbeck.methods.mocov3 import MoCoV3
from tests.helpers.tiny import tiny_vit


def mocov3(temperature: float = 0.2) -> MoCoV3:
    torch.manual_seed(0)
    return MoCoV3Config(hidden=12, dim=8, temperature=temperature).build(tiny_vit())


def test_chance_is_two_tau_log_of_the_batch() -> None:
    """Equal keys give chance level at any temperature."""
    for temperature in (0.1, 0.2, 1.0):
        loss = mocov3(temperature).pair_loss(torch.randn(7, 8), torch.ones(7, 8)).item()
        assert math.isclose(loss, 2 * temperature * math.log(7), rel_tol=1e-5)


def test_the_factor_keeps_the_gradient_of_high_temperatures() -> None:
    """2 tau * CE(cos / tau) tends to 2 (mean cosine of all keys - cosine of the positive key) as tau grows."""
    queries, keys = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)
    cosines = nn.functional.cosine_similarity(queries[:, None], keys[None], dim=2)
    temperature = 1e4
    loss = mocov3(temperature).pair_loss(queries, keys) - 2 * temperature * math.log(5)
    torch.testing.assert_close(loss, 2 * (cosines.mean() - cosines.diagonal().mean()), rtol=1e-3, atol=1e-4)


def test_a_key_is_the_positive_of_its_row() -> None:
    method, images = mocov3(), torch.eye(8)[:4]
    assert method.pair_loss(images, images) < method.pair_loss(images, images.roll(1, 0))


def test_heads_end_with_a_norm_without_parameters() -> None:
    method = mocov3()
    assert method.head.predictor is not None
    for part in (method.head.projector, method.head.predictor):
        last = part[-1]  # type: ignore[index]
        assert isinstance(last, nn.BatchNorm1d)
        assert not last.affine
