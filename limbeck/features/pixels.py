"""Raw pixels as features: what a network must exceed to be worth running."""

from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.data.store.store import Store
from limbeck.features.fitted_patch_filters import input_size
from limbeck.features.images import eval_images
from limbeck.models.encoder_io import Preprocessing

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Normalization of the input: pixels between 0 and 1."""
BATCH = 256


class CenteredPixels(nn.Module):
    """The pixels of an image less the mean image of a store, as a network: [B 3 S S] -> [B 3 * S * S].

    Images are resized to at most 32 pixels. Features are multiplied by `scale`, the same for all, so that their mean
    squared norm is 16: cosines do not change, and the SGD probe, with a learning rate made for features of networks, is
    best there (CIFAR-10, 5,000 rows, 50 epochs: 38.6 %, and 34.8 % without it).
    """

    def __init__(self, image_size: int, store_size: int) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(image_size=image_size, store_size=store_size, mean=MEAN, std=STD)
        self.dim = 3 * image_size**2
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("scale", torch.ones(()))
        self.mean: Tensor
        self.scale: Tensor

    @classmethod
    def fit(cls, store: Store) -> Self:
        """Return the network with the mean of all images of `store`, computed on the CPU."""
        network = cls(input_size(store.size), store.size)
        images = eval_images(store, network.preprocessing.image_size, MEAN, STD, torch.device("cpu"))
        total, squares = torch.zeros(network.dim, dtype=torch.float64), 0.0
        for part in np.split(np.arange(len(store)), range(BATCH, len(store), BATCH)):
            pixels = images(part).flatten(1).double()
            total += pixels.sum(dim=0)
            squares += pixels.square().sum().item()
        mean = total / len(store)
        variance = squares / len(store) - mean.square().sum().item()
        network.mean.copy_(mean)
        network.scale.fill_(4 / max(variance, 1e-6) ** 0.5)
        return network

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Subtract the mean image and scale."""
        return (images.flatten(1) - self.mean) * self.scale
