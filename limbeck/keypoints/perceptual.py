"""Frozen networks that a reconstruction is compared by: VGG-16 from a file, an encoder of Limbeck, or pixels alone.

Nothing is downloaded, and a file of safetensors runs no code.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.core.errors import UserError, one_line
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.losses.alignment import mean_absolute_error
from limbeck.models.encoder_io import load, load_preprocessing

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))
"""Channels of the convolutions of VGG-16 up to relu4_3, by block."""
SIDE = 224  # pixels that its images are resized to
DEPTHS = 4  # taps of an encoder, from the first one


class VGG16(nn.Module):
    """The first ten convolutions of VGG-16 with their nonlinearities, under torchvision's names.

    Source: `VGGPerceptualLoss` in xingzhehe/AutoLink 3fbde11, which compares relu1_2, relu2_2, relu3_3 and relu4_3.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {}
        channels = 3
        for block in WIDTHS:
            for width in block:
                layers[str(len(layers))] = nn.Conv2d(channels, width, 3, padding=1)
                layers[str(len(layers))] = nn.ReLU()
                channels = width
            layers[str(len(layers))] = nn.MaxPool2d(2)
        self.features = nn.Sequential()
        for name, layer in list(layers.items())[:-1]:
            self.features.add_module(name, layer)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """Return the four maps of images in [0, 1]."""
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        x, maps = F.interpolate((images - mean) / std, size=(SIDE, SIDE), mode="bilinear"), []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x]


class EncoderMaps(nn.Module):
    """The feature maps of a frozen encoder of images at its first depths."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.encoder, self.how = load(path), load_preprocessing(path)
        self.depths = self.encoder.taps[:DEPTHS]

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """Return the maps of images in [0, 1], resized to the size that the encoder expects."""
        size = (self.how.image_size,) * 2
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.how.mean, self.how.std))
        resized = images if images.shape[2:] == size else F.interpolate(images, size=size, mode="bilinear")
        found = self.encoder((resized - mean) / std, self.depths, feature_maps=True).feature_maps
        return [found[depth] for depth in self.depths]


class Pixels(nn.Module):
    """The images themselves: what needs no network."""

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """Return them."""
        return [images]


def load_perceptual(path: str | None) -> nn.Module:
    """Return the network that maps images in [0, 1] to the features that are compared.

    Args:
        path: a file of safetensors with torchvision's VGG-16; a run on images, or its encoder; None: pixels.

    Raises:
        UserError: nothing of these is there.
    """
    if not path:
        return Pixels()
    if Path(path).is_dir():
        return EncoderMaps(Path(path))
    if not Path(path).is_file():
        raise UserError(
            f"the perceptual network '{path}' is not there: give a file of safetensors with VGG-16, a run on images, "
            "or leave it out, and pixels are compared",
            code="no-perceptual-network",
        )
    return _load_vgg(path)


def _load_vgg(path: str) -> VGG16:
    network = VGG16()
    try:
        weights = load_file(path)
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"'{path}' holds no VGG-16 under torchvision's names in safetensors ({one_line(error)}): convert it with "
            "safetensors.torch.save_file(torchvision.models.vgg16(...).state_dict(), PATH)",
            code="no-perceptual-network",
        ) from error
    return network


def perceptual_loss(
    features: Callable[[Tensor], list[Tensor]], painted: Float[Tensor, "B 3 S S"], images: Float[Tensor, "B 3 S S"]
) -> Float[Tensor, ""]:
    """Return the sum over feature maps of the mean absolute difference of two sets of images in [-1, 1]."""
    with torch.no_grad():
        targets = features(images * 0.5 + 0.5)
    pairs = zip(features(painted * 0.5 + 0.5), targets, strict=True)
    return torch.stack([mean_absolute_error(found, target) for found, target in pairs]).sum()
