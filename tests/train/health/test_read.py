"""A reading: its numbers by hand, and that it leaves no trace."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

from limbeck.data.loader import Loader
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.metrics.representation import effective_rank, normalized_std
from limbeck.train.health.read import HealthReader, describe_fault
from tests.helpers.tiny import tiny_vit
from tests.helpers.toy import VIEWS, Toy, noise, toy

CPU = torch.device("cpu")


def reader(method: Any, batch: int = 40, accumulate_steps: int = 1) -> HealthReader:
    loader = Loader(noise(), VIEWS, batch, seed=0, device=CPU, accumulate_steps=accumulate_steps)
    return HealthReader(method, loader, Fabric(accelerator="cpu", devices=1))


def test_the_numbers_are_those_of_the_fixed_images_in_their_two_views() -> None:
    method = toy()
    torch.nn.init.normal_(method.average[1].weight)
    found = reader(method).read()
    first, second = Loader(noise(), VIEWS, 40, seed=0, device=CPU).fixed_batch(np.arange(40)).views
    method.eval()
    with torch.no_grad():
        a, b, target = method.backbone(first).final, method.backbone(second).final, method.average(first).final
    unit = [F.normalize(x, dim=1) for x in (a, b, target)]
    expected = {
        "effective_rank": effective_rank(a),
        "embedding_rank": effective_rank(a),
        "embedding_std": normalized_std(a),
        "alignment": (unit[0] - unit[1]).square().sum(1).mean(),
        "uniformity": (-2 * torch.pdist(unit[0]).square()).exp().mean().log(),
        "dead_units": torch.tensor(0.0),
        "weight_norm": sum(p.detach().square().sum() for p in method.backbone.parameters()) ** 0.5,
        "ema_distance": (unit[0] - unit[2]).square().sum(1).mean(),
    }
    for other in ("weight_hash", "peak_to_rms", "peak_depth", "kurtosis"):
        found.pop(other)
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-4)


def test_the_hash_shows_any_movement_of_the_weights() -> None:
    """Also where the norm stays, as in a step of an EMA encoder that is below the rounding of the norm."""
    method = toy()
    weight = next(method.encoder().parameters())
    before = reader(method).read()
    assert reader(method).read() == before
    with torch.no_grad():
        weight.copy_(weight.flip(0))
    after = reader(method).read()
    assert after["weight_norm"] == pytest.approx(before["weight_norm"], rel=1e-6)
    assert after["weight_hash"] != before["weight_hash"]


@pytest.mark.parametrize("micro_batches", [1, 5])
def test_outliers_are_those_of_the_worst_layer_channel_by_channel(micro_batches: int) -> None:
    """Loops in float64 over the feature maps of a network with a loud channel in its second block."""
    torch.manual_seed(0)
    method: Any = SimCLRConfig(hidden=8, dim=4).build(tiny_vit()).eval()
    with torch.no_grad():
        method.backbone.model.blocks[1].mlp.fc2.bias[3] = 40.0
    found = reader(method, accumulate_steps=micro_batches).read()
    first, _ = Loader(noise(), VIEWS, 40, seed=0, device=CPU).fixed_batch(np.arange(40)).views
    with torch.no_grad():
        maps = method.backbone(first, method.backbone.taps, feature_maps=True).feature_maps
    ratios, kurtoses = list[float](), list[float]()
    for tap in method.backbone.taps:
        channels = maps[tap].double().transpose(0, 1).flatten(1).tolist()
        rms = [(sum(x**2 for x in channel) / len(channel)) ** 0.5 for channel in channels]
        ratios.append(sum(max(map(abs, c)) / r for c, r in zip(channels, rms, strict=True)) / len(channels))
        values = [x for channel in channels for x in channel]
        fourth, square = (sum(x**power for x in values) / len(values) for power in (4, 2))
        kurtoses.append(fourth / square**2)
    assert max(kurtoses) > 2 * min(kurtoses)
    assert found["peak_to_rms"] == pytest.approx(max(ratios), rel=1e-3)
    assert found["peak_depth"] == 1 + ratios.index(max(ratios))
    assert found["kurtosis"] == pytest.approx(max(kurtoses), rel=1e-4)


@pytest.mark.parametrize(
    ("images", "fault"),
    [
        (np.zeros((40, 8, 8, 3), np.uint8), "only 1 differ"),
        (np.arange(40, dtype=np.uint8).repeat(192).reshape(40, 8, 8, 3), "single color"),
        (np.arange(40 * 192, dtype=np.int64).reshape(40, 8, 8, 3) // 192 % 2 * 9, "only 2 differ"),
        (np.arange(40 * 192).reshape(40, 8, 8, 3) % 251, ""),
        (None, ""),
    ],
)
def test_images_that_no_network_can_tell_apart_are_the_fault_of_the_data(images: Any, fault: str) -> None:
    found = describe_fault(images, np.arange(40))
    assert bool(found) == bool(fault)
    assert fault in found


def test_micro_batches_change_no_number() -> None:
    parts = reader(toy(), accumulate_steps=5)
    assert len(parts.parts) == 5
    assert parts.read() == pytest.approx(reader(toy()).read(), rel=1e-5)


def test_a_unit_with_the_same_output_for_every_image_is_dead() -> None:
    method = toy(norm=False)
    with torch.no_grad():
        method.backbone[1].weight[:2] = 0.0
        method.backbone[1].bias.fill_(1.0)
    assert reader(method).read()["dead_units"] == pytest.approx(2 / 6)


def test_a_reading_leaves_modes_statistics_and_random_numbers_alone() -> None:
    method = toy()
    method.backbone[2].eval()
    state = {name: value.clone() for name, value in method.state_dict().items()}
    random, modes = torch.get_rng_state(), [module.training for module in method.modules()]
    reader(method).read()
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in method.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


def test_values_that_are_not_numbers_are_reported_as_such() -> None:
    method = toy(norm=False)
    with torch.no_grad():
        method.backbone[1].bias[0] = torch.inf
    assert np.isnan(reader(method).read()["embedding_rank"])


def test_small_batches_are_read_on_32_images_and_a_method_without_ema_encoder_has_no_distance() -> None:
    class WithoutEMA(Toy):
        def target_encoder(self) -> None:
            return None

    found = reader(toy(kind=WithoutEMA), batch=4)
    assert [len(part) for part in found.parts] == [4] * 8
    assert "ema_distance" not in found.read()
    assert found.max_rank == 6
