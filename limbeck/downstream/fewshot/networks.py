"""The two kinds of features that a relation module gets: those of a frozen network, and those of one that learns."""

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.core.devices import choose_device, resolve_bf16
from limbeck.data.augment.views import preset
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig
from limbeck.features.extract import extract
from limbeck.features.fitted_patch_filters import input_size as pixel_size
from limbeck.features.images import augmented_images, eval_images
from limbeck.features.pixels import MEAN, STD
from limbeck.metrics.whitening import HalfWhitening
from limbeck.modalities.images import MODALITY
from limbeck.modalities.images.resolve import input_size
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig

COMPONENTS = 64
"""Principal components of frozen features."""
VIEWS = "weak"
"""Preset of the views that a network learns from; the first one is taken."""
Points = Float[Tensor, "N D"]


class Network(ABC):
    """Features of the images of a store."""

    dim: int
    module: nn.Module | None = None
    """Networks that are trained together with the relation module."""

    @abstractmethod
    def features(self, rows: Int[Tensor, " M"], step: int) -> Float[Tensor, "M D"]:
        """Return features in step `step` of the training, with a gradient where `module` is trained."""

    @abstractmethod
    def points(self) -> Points:
        """Return the features of all images, on the CPU, for the test."""


class FrozenNetwork(Network):
    """Half-whitened principal components of features that stay as they are, as vectors of length sqrt(D).

    Args:
        found: [N D], features of all images.
        base: rows that the components are those of, so that classes of the test play no part.
    """

    def __init__(self, found: Points, base: np.ndarray) -> None:
        whitening = HalfWhitening.fit(found[torch.from_numpy(base)], COMPONENTS)
        unit = F.normalize(whitening(found), dim=1)
        self.dim = unit.shape[1]
        self._points = unit * self.dim**0.5  # coordinates of about 1, which is what linear layers are initialized for

    def features(self, rows: Int[Tensor, " M"], step: int) -> Float[Tensor, "M D"]:
        """Return rows of `points`."""
        return self._points[rows]

    def points(self) -> Points:
        """Return the features of all images."""
        return self._points


class LearningNetwork(Network):
    """A network with random weights, which learns from a random crop of each image, another one in every step."""

    def __init__(self, store: Store, name: str, embed: EmbedConfig, seed: int) -> None:
        torch.manual_seed(seed)
        self.store, self.seed, self.embed = store, seed, embed
        self.cfg = MODALITY.resolve_encoder(BackboneConfig(name=name), store).value
        self.device = choose_device(embed.device)
        self.module = self.backbone = build_backbone(self.cfg).to(self.device)
        self.dim = self.backbone.dim
        mean, std = self.cfg.normalization
        self.view = replace(preset(VIEWS, input_size(self.cfg))[0], mean=mean, std=std)

    def features(self, rows: Int[Tensor, " M"], step: int) -> Float[Tensor, "M D"]:
        """Run the network on augmented images."""
        images = augmented_images(self.store, self.view, 0, self.device, self.seed, step)
        return self.backbone(images(rows.numpy())).final

    def points(self) -> Points:
        """Run the network on unaugmented images, in evaluation mode."""
        images = eval_images(self.store, input_size(self.cfg), *self.cfg.normalization, self.device)
        last, size = self.backbone.taps[-1], self.embed.batch_size
        bf16 = resolve_bf16(self.embed.precision, self.device)
        every = np.arange(len(self.store))
        found = extract(
            self.backbone, images, every, taps=[last], device=self.device, batch_size=size, bf16=bf16, show="features"
        )
        return found[last].cpu()


def pixel_points(store: Store, base: np.ndarray) -> Points:
    """Return raw pixels [N D] of at most 32 x 32, less the mean image of the rows `base`."""
    pixels = eval_images(store, pixel_size(store.size), MEAN, STD, torch.device("cpu"))(np.arange(len(store))).flatten(
        1
    )
    return pixels - pixels[torch.from_numpy(base)].mean(dim=0)
