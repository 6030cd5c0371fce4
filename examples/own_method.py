"""Write a method, alignment and uniformity, and train it with Limbeck's loop.

    python examples/own_method.py

As `limbeck/methods/config/uniform.py` and `limbeck/methods/uniform.py` the classes would be all that `limbeck pretrain`
needs, and SDSSL could build on them (Wang and Isola, ICML 2020). Takes about half a minute on two CPU cores.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck
from limbeck.core.types import Encoder
from limbeck.data.samples import digits
from limbeck.methods.base import BatchHost
from limbeck.methods.config.base import HostConfig, MethodCard
from limbeck.models.backbone import build_backbone
from limbeck.train.loop import train


@dataclass(frozen=True, kw_only=True)
class UniformConfig(HostConfig):
    """Alignment and uniformity, with equal weights."""

    name: ClassVar[str] = "uniform"
    card: ClassVar[MethodCard] = MethodCard("agree, and spread over the sphere", "-", "batches of some hundreds", 2.2)
    trailing_norm: bool = False

    def build(self, backbone: Encoder) -> "Uniform":
        """Return the method with new heads around `backbone`."""
        return Uniform(backbone, self)


class Uniform(BatchHost):
    """Draw the two views of an image together, and all images of a view apart."""

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of [2B D], the rows of the first view and then those of the second."""
        first, second = F.normalize(queries, dim=1).chunk(2)
        alignment = (first - second).square().sum(1).mean()
        uniformity = torch.stack([torch.pdist(z).square().mul(-2).exp().mean().log() for z in (first, second)]).mean()
        return alignment + uniformity


def main(out: Path = Path("out/uniform"), epochs: float = 3) -> None:
    """Train on the digits, and write the run into the folder `out`."""
    network = build_backbone(limbeck.BackboneConfig(name="resnet18", args={"channels": [8, 16, 32, 64]}, image_size=28))
    config = UniformConfig(views="mocov2", hidden=256, dim=128)
    training = limbeck.TrainConfig(epochs=epochs, batch_size=128, precision="fp32")
    store = limbeck.Store.from_arrays(*digits())
    train(config.build(network), store, config.make_views(28), training, limbeck.OptimConfig(lr=1e-3), out, config={})


if __name__ == "__main__":
    main()
