"""What an evaluation is to do."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD

LBFGS_ROWS = 5000
"""Training rows up to which the linear probe is fitted by L-BFGS unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How to judge every layer of a backbone."""

    batch_size: int = 256
    """Images per forward pass."""
    k: int = 20
    """Neighbours of the weighted k-NN."""
    temperature: float = 0.07
    """Temperature of the weighted k-NN: a neighbour's vote weighs exp(cosine / temperature)."""
    linear: Literal["auto", "sgd", "lbfgs", "none"] = "auto"
    """Linear probe: L-BFGS by layer, SGD for all layers at once, none; auto is L-BFGS up to 5,000 training images."""
    linear_epochs: int = 100
    """Passes of the SGD probe over the training features."""
    linear_lr: float = 0.1
    """Learning rate of the SGD probe per 256 rows."""
    linear_batch_size: int = 1024
    """Rows per step of the SGD probe."""
    alignment_images: int = 1000
    """Test images, drawn with the seed, for alignment and uniformity."""
    latency: bool = True
    """Measure the time of one image through every cut."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the forward passes; auto takes bf16 where the hardware has it. Features are kept in float32."""
    image_size: int | None = None
    """Pixels of the images that the network sees; its own `image_size` if not given, or 224."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of the channels that the network was trained with."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Deviation of the channels that the network was trained with."""
    memory_gib: float = 4.0
    """Features above this size are memory-mapped to a temporary file instead of kept on the device."""
    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1 ..."""
    seed: int = 0
    """Seed of the geometry's images and views and of the SGD probe's order."""
    progress: bool = True
    """Show progress bars on stderr."""

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "k",
            "temperature",
            "linear_epochs",
            "linear_lr",
            "linear_batch_size",
            "memory_gib",
        ):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be more than 0")
        if self.alignment_images < 2:
            raise UserError(f"images_for_geometry is {self.alignment_images}: it must be at least 2")
