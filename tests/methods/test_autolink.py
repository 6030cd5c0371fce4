"""AutoLink: the authors' networks and perceptual loss, its step against its definition, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.core.types import StepInfo
from limbeck.data.sampling import CellMask
from limbeck.keypoints.config import DetectorConfig
from limbeck.keypoints.decoder import EdgeDecoder
from limbeck.keypoints.network import Detector
from limbeck.keypoints.perceptual import VGG16, load_perceptual, perceptual_loss
from limbeck.losses.edges import edge_map
from limbeck.methods import MethodConfig
from limbeck.methods.autolink import AutoLink
from limbeck.methods.config.autolink import AutoLinkConfig
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.modalities import find_modality
from limbeck.modalities.keypoints import MODALITY
from tests.helpers.errors import raises
from tests.helpers.golden import GOLDEN, Golden, assert_allclose
from tests.helpers.tiny import CONTEXT, SIZE, STEP, batch_for, encoder_for, tiny_vit


def fill(names: np.ndarray, parameters: list[nn.Parameter], seed: int) -> None:
    """Set the weights that the authors' networks had, as tests/golden/README.md says."""
    rng = np.random.RandomState(seed)
    for name, parameter in zip(names, parameters, strict=True):
        draw = torch.from_numpy(np.asarray(rng.randn(*parameter.shape)))
        if parameter.dim() == 4:
            draw = draw * (2 / (1.04 * parameter[0].numel())) ** 0.5
        else:
            draw = 0.1 * draw + (name.endswith("weight") and 1)
        parameter.data = (draw - 4) / 512 if name == "skeleton_scalar" else draw


def authors_networks(numbers: Golden) -> tuple[Detector, EdgeDecoder, list[nn.Parameter], list[nn.Parameter]]:
    """Return both networks, and their parameters in the authors' order."""
    detector, decoder = Detector(DetectorConfig(keypoints=4)).double(), EdgeDecoder(64).double()
    found = [p for name, p in detector.named_parameters() if name != "edge_scores"]
    alpha, *others = decoder.parameters()
    painting = [alpha, detector.edge_scores, *others]
    seed = int(numbers["seed"])
    fill(numbers["parameter_names_detector"][1:], found, seed)
    fill(numbers["parameter_names_decoder"], painting, seed + 1)
    return detector, decoder, found, painting


def norms(parameters: list[nn.Parameter]) -> list[float]:
    return [p.grad.norm().item() if p.grad is not None else np.nan for p in parameters]


@pytest.mark.slow
def test_both_networks_are_the_authors() -> None:
    numbers = dict(np.load(GOLDEN / "autolink_network.npz"))
    detector, decoder, found, painting = authors_networks(numbers)
    rng = np.random.RandomState(int(numbers["seed"]) + 2)
    images = F.interpolate(torch.from_numpy(np.tanh(rng.randn(2, 3, 16, 16))), size=(128, 128), mode="bilinear")
    features = detector(images, (7,), feature_maps=True)
    keypoints = features.final.unflatten(1, (4, 2))
    edges = edge_map(keypoints, detector.edges(), 1e-3, 128)
    painted = decoder(images * F.interpolate(torch.from_numpy(numbers["keep"]), size=(128, 128)), edges)

    assert_allclose(keypoints, numbers["keypoints"])
    heat = features.feature_maps[7].flatten(2).softmax(2).view(2, 4, 32, 32)
    assert_allclose(heat[:, :, 16], numbers["prob_map_row16"], atol=1e-9)
    assert_allclose(edges[:, 0, 64], numbers["edge_map_row64"], atol=1e-9)
    assert_allclose(painted[..., ::8, ::8], numbers["image_every8"], atol=1e-9)
    painted.square().mean().backward()
    assert_allclose(np.array(norms(found)), numbers["grad_norm_detector"], 1e-6, 1e-9)
    assert_allclose(np.array(norms(painting)), numbers["grad_norm_decoder"], 1e-6, 1e-9)
    assert_allclose(detector.edge_scores.grad, numbers["grad_scalars"], 1e-6, 1e-9)


def test_the_perceptual_loss_is_the_authors() -> None:
    numbers = np.load(GOLDEN / "perceptual_loss.npz")
    rng, network = np.random.RandomState(int(numbers["seed"])), VGG16().double()
    for layer in (layer for layer in network.features if isinstance(layer, nn.Conv2d)):
        layer.weight.data = torch.from_numpy(rng.randn(*layer.weight.shape)) * (2 / layer.weight[0].numel()) ** 0.5
        assert layer.bias is not None
        layer.bias.data = 0.1 * torch.from_numpy(rng.randn(*layer.bias.shape))
    images, painted = torch.from_numpy(numbers["y"]), torch.from_numpy(numbers["x"]).requires_grad_()
    loss = perceptual_loss(network.requires_grad_(False), painted, images)
    assert_allclose(loss, numbers["loss"])
    loss.backward()
    assert_allclose(painted.grad, numbers["grad_x"], 1e-6, 1e-9)


def test_a_step_is_its_definition() -> None:
    torch.manual_seed(0)
    config = AutoLinkConfig()
    method, batch = config.build(encoder_for(config)).double(), batch_for(config, 3, torch.float64)
    view, hidden = batch.views[0], batch.masks[0].view(3, 16, 16)
    keypoints = method.backbone(view).final.view(3, 4, 2)
    edges = edge_map(keypoints, method.backbone.edges(), 1e-3, SIZE)
    shown = view.clone()
    for row, line, column in hidden.nonzero():
        shown[row, :, line, column] = 0  # the sides of image and mask are equal here
    expected = (method.decoder(shown, edges) - view).abs().mean() / 2
    loss = method(batch, STEP).total
    torch.testing.assert_close(loss, expected)
    trained = list(method.parameters())
    for pair in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(*pair)


def test_masks_follow_from_the_row_alone_and_hide_their_share() -> None:
    mask, rows = CellMask(side=16, share=0.8), np.arange(64)
    hidden = mask.draw(0, rows, seed=1, epoch=2)
    assert np.array_equal(hidden[::-1], mask.draw(0, rows[::-1], seed=1, epoch=2))
    for other in (mask.draw(0, rows, 1, 3), mask.draw(0, rows, 2, 2), mask.draw(1, rows, 1, 2)):
        assert 0.6 < (hidden == other).mean() < 0.76  # 0.68 of independent draws
    assert abs(hidden.mean() - 0.8) < 3 * (0.16 / hidden.size) ** 0.5


def test_weights_of_vgg_are_read_from_a_file_that_runs_no_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, network = tmp_path / "vgg.safetensors", VGG16()
    save_file(network.state_dict() | {"classifier.6.bias": torch.zeros(1000)}, path)
    loaded = load_perceptual(str(path))
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert all(torch.equal(*pair) for pair in zip(loaded(images), network(images), strict=True))
    save_file({"conv.weight": torch.zeros(1)}, path)
    with raises("no-perceptual-network", str(path)):
        load_perceptual(str(path))
    with raises("no-perceptual-network", "nowhere"):
        load_perceptual("nowhere")


def test_a_perceptual_network_belongs_to_no_checkpoint(tmp_path: Path) -> None:
    save_file(VGG16().state_dict(), tmp_path / "vgg.safetensors")
    config = AutoLinkConfig(perceptual=str(tmp_path / "vgg.safetensors"))
    method = config.build(encoder_for(config))
    assert not [name for name in method.state_dict() if "features" in name]
    before = AutoLinkConfig().build(encoder_for(config)).state_dict()
    assert before.keys() == method.state_dict().keys()


@pytest.mark.parametrize("changes", [{"keypoints": 65}, {"keypoints": 1}, {"image_size": 100}, {"width": 0}], ids=str)
def test_networks_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with raises("out-of-range", *changes.values()):
        DetectorConfig(**changes)


@pytest.mark.parametrize("config", [AutoLinkConfig(hidden_share=1.5), AutoLinkConfig(thickness=0.0)], ids=str)
def test_options_without_sense_are_refused(config: MethodConfig) -> None:
    with raises("out-of-range"):
        config.resolve(CONTEXT)


def test_method_and_network_are_for_each_other_alone() -> None:
    with raises("method-not-for-data", "simclr"):
        MODALITY.make_views(SimCLRConfig(), DetectorConfig())
    with raises("method-not-for-data", "vit"):
        AutoLinkConfig().build(tiny_vit())
    with raises("method-not-for-data", "keypoints"):
        AutoLinkConfig().check_modality("images")
    assert find_modality("photos", only="keypoints") is MODALITY
    assert find_modality("photos").name == "images"


def test_a_detector_is_whole() -> None:
    with raises("no-cut", "3"):
        encoder_for(AutoLinkConfig()).cut(3)


def test_keypoints_move_with_the_image() -> None:
    """A detector trained on a bright square finds it: its keypoints differ between places and follow them."""
    torch.manual_seed(0)
    config = AutoLinkConfig(thickness=0.05)
    method = config.build(Detector(DetectorConfig(keypoints=2, image_size=32, width=4)))
    generator, places = np.random.default_rng(0), []
    images = torch.full((16, 3, 32, 32), -0.8)
    for image in images:
        row, column = generator.integers(2, 22, 2)
        image[:, row : row + 8, column : column + 8] = 0.8
        places.append((row, column))
    masks = (torch.from_numpy(CellMask(side=16, share=1.0).draw(0, np.arange(16), 0, 0)),)
    batch = batch_for(config, 16)._replace(views=(images,), masks=masks)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    for step in range(50):
        optimizer.zero_grad()
        method(batch, StepInfo(step, 50)).total.backward()
        optimizer.step()
    assert correlation(method, images, places) > 0.8


@torch.no_grad()
def correlation(method: AutoLink, images: Tensor, places: list[tuple[int, int]]) -> float:
    """Return the correlation of the mean keypoint with the true place, over rows and columns."""
    means = method.backbone.eval()(images).final.unflatten(1, (2, 2)).mean(dim=1)
    return float(np.corrcoef(means.numpy().ravel(), np.array(places).ravel())[0, 1])
