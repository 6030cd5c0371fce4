"""SmoothQuant changes no function and takes the outliers out of activations; what 8 bits cost a layer."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.exports.proof import ExampleBatch, half_linear, prove
from limbeck.exports.sensitivity import round_to_8_bits, sensitivities
from limbeck.exports.smooth import STRENGTH, smooth
from limbeck.models.backbone import build_backbone
from tests.helpers.tiny import SIZE, tiny_vit


def batches(count: int = 3, dtype: torch.dtype = torch.float64) -> list[ExampleBatch]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(4, 3, SIZE, SIZE, generator=generator, dtype=dtype) for _ in range(count)]
    return [(batch, torch.arange(4)) for batch in images]


def loud_vit() -> nn.Module:
    """Return a ViT of which a few channels are far larger than the others, as trained ones have them."""
    network = build_backbone(tiny_vit().cfg).model.double().eval()
    for block in network.blocks:
        block.norm1.weight.data[::5] *= 50
        block.norm2.weight.data[::5] *= 50
    return network


def unevenness(network: nn.Module) -> float:
    """Return how far the largest channel is above the usual one, at the worst of the LayerNorms of the blocks."""
    found = []
    norms: list[Any] = [norm for block in network.blocks for norm in (block.norm1, block.norm2)]  # type: ignore[union-attr]

    def note(norm: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        channels = output.abs().flatten(0, -2).amax(dim=0)
        found.append((channels.max() / channels.median()).item())

    hooks = [norm.register_forward_hook(note) for norm in norms]
    with torch.no_grad():
        network(batches()[0][0])
    for hook in hooks:
        hook.remove()
    return max(found)


def test_the_network_computes_the_same_with_smaller_outliers() -> None:
    network = loud_vit()
    before, expected = unevenness(network), network(batches()[0][0])
    norms = len(network.blocks) * 2  # type: ignore[arg-type]
    assert smooth(network, batches()) == norms
    torch.testing.assert_close(network(batches()[0][0]), expected, rtol=1e-9, atol=1e-9)
    assert unevenness(network) < before / 3


def test_a_scale_is_that_of_the_formula() -> None:
    network = loud_vit()
    norm, reader = network.blocks[0].norm1, network.blocks[0].attn.qkv  # type: ignore[index, union-attr]
    seen: list[Tensor] = []
    hook = norm.register_forward_hook(lambda *call: seen.append(call[2]))
    old = copy.deepcopy((norm.weight.data, reader.weight.data))
    with torch.no_grad():
        for images, _ in batches():
            network(images)
    hook.remove()
    smooth(network, batches())
    for channel in range(len(old[0])):
        largest = max(values[..., channel].abs().max().item() for values in seen)
        weight = max(abs(value) for value in old[1][:, channel].tolist())
        scale = largest**STRENGTH / weight ** (1 - STRENGTH)
        assert norm.weight[channel].item() == pytest.approx(old[0][channel].item() / scale)
        assert reader.weight[0, channel].item() == pytest.approx(old[1][0, channel].item() * scale)


class Shared(nn.Module):
    """A network that adds what its norm computes, so that a scale would not cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(SIZE).double(), nn.Linear(SIZE, SIZE).double()

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B SIZE] of images [B 3 SIZE SIZE]."""
        x = self.norm(images.mean(dim=(1, 2)))
        return x + self.linear(x)


def test_a_norm_that_a_function_reads_as_well_is_left_alone() -> None:
    network = Shared().eval()
    before = copy.deepcopy(network.state_dict())
    assert smooth(network, batches()) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_layer_with_outliers_loses_most() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
    network = nn.Sequential(*network, nn.Linear(16, 8)).double().eval()
    with torch.no_grad():
        network[1].bias[0] = 300  # type: ignore[operator]
        network[3].weight[:, 0] = 0  # type: ignore[operator]
    found = sensitivities(network, batches())
    assert next(iter(found)) == "3"
    assert [*found.values()] == sorted(found.values(), reverse=True)
    assert {*found} == {"1", "3", "5"}


def test_eight_bits_are_255_levels_between_the_extremes_of_a_channel() -> None:
    x = torch.randn(3, 40, dtype=torch.float64)
    whole, rows = round_to_8_bits(x), round_to_8_bits(x, (1,))
    for row in range(3):
        low, high = min(x[row].tolist()), max(x[row].tolist())
        step = (high - low) / 255
        for value, found in zip(x[row].tolist(), rows[row].tolist(), strict=True):
            assert found == pytest.approx(low + step * round((value - low) / step))
    assert (whole - x).abs().max() <= (x.max() - x.min()) / 255 / 2 + 1e-12
    assert torch.equal(round_to_8_bits(torch.ones(4)), torch.ones(4))


def test_a_proof_of_equal_and_of_unrelated_features() -> None:
    features, other = torch.randn(60, 8), torch.randn(60, 8)
    labels = torch.arange(60) % 3
    same = prove(features, features, labels)
    assert (same.neighbors, same.largest_difference, same.knn) == (1, 0, same.fp32_knn)
    assert same.cosine == pytest.approx(1)
    assert prove(other, features, labels).neighbors < 2.5 * same.chance
    assert prove(features, features, labels - 1).knn is None
    assert "100.0%" in same.sentence()


def test_the_linear_probe_of_a_proof_is_fitted_to_one_half_and_scored_on_the_other() -> None:
    labels = torch.arange(40) // 2 % 4
    features = torch.eye(4)[labels] + 0.05 * torch.randn(40, 4)
    features[1] = features[3].clone()  # of another class than its label
    assert half_linear(features, labels) == pytest.approx(19 / 20)
    assert half_linear(features, torch.where(torch.arange(40) == 0, -1, labels)) is None
    assert half_linear(features, torch.zeros(40, dtype=torch.int64)) is None


def test_what_a_classifier_keeps_are_its_classes() -> None:
    logits = torch.randn(60, 3)
    changed = logits.clone()
    changed[:6] = -logits[:6]
    best = [[max(range(3), key=row.__getitem__) for row in table.tolist()] for table in (changed, logits)]
    found = prove(changed, logits, torch.full([60], -1), logits=True)
    assert found.fidelity == found.same_class == pytest.approx(sum(a == b for a, b in zip(*best, strict=True)) / 60)
    assert "class" in found.sentence()
    plain = prove(changed, logits, torch.full([60], -1))
    assert plain.fidelity == plain.neighbors < 1
