"""Write a method, VICReg, and train it with Limbeck's loop.

    python examples/own_method.py

As `limbeck/methods/vicreg.py` the two classes would be all that `limbeck pretrain --method vicreg` needs, and SDSSL
could build on it (Bardes, Ponce, LeCun, ICLR 2022). Takes about half a minute on two CPU cores.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

import limbeck
from limbeck.core.types import Encoder
from limbeck.data.samples import digits
from limbeck.methods.base import BatchHost, HostConfig, MethodCard
from limbeck.models.backbone import BackboneConfig, build_backbone
from limbeck.train.loop import train


@dataclass(frozen=True, kw_only=True)
class VICRegConfig(HostConfig):
    """VICReg with the weights of the paper."""

    name: ClassVar[str] = "vicreg"
    card: ClassVar[MethodCard] = MethodCard("agree, vary, decorrelate", "nothing", "batches without negatives", 2.2)
    trailing_norm: bool = False

    def build(self, backbone: Encoder) -> "VICReg":
        """Return the method with new heads around `backbone`."""
        return VICReg(backbone, self)


class VICReg(BatchHost):
    """Keep two views close, every dimension spread out, and dimensions uncorrelated."""

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of [2B D], the rows of the first view and then those of the second (eq. 6)."""
        first, second = queries.chunk(2)
        loss = 25 * (first - second).square().mean()
        for z in (first, second):
            covariance = z.T.cov()
            loss = loss + 12.5 * (1 - (covariance.diagonal() + 1e-4).sqrt()).relu().mean()
            loss = loss + (covariance - covariance.diag().diag()).square().sum() / z.shape[1]
        return loss


def main(out: Path = Path("out/vicreg"), epochs: float = 3) -> None:
    """Train on the digits, and write the run into the folder `out`."""
    backbone = build_backbone(BackboneConfig(name="resnet18", args={"channels": [8, 16, 32, 64]}, image_size=28))
    config = VICRegConfig(views="mocov2", hidden=256, dim=128)
    training = limbeck.TrainConfig(epochs=epochs, batch_size=128, precision="fp32")
    store = limbeck.Store.from_arrays(*digits())
    train(config.build(backbone), store, config.make_views(28), training, limbeck.OptimConfig(lr=1e-3), out, config={})


if __name__ == "__main__":
    main()
