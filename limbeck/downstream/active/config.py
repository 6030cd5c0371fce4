"""Settings of cycles of learning, choosing and labeling."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CyclesConfig:
    """How often to learn and to choose, and who knows the labels."""

    oracle: str | None = None
    """Who labels what was chosen: a list with path and label of every image, or SOURCE itself if it has labels."""
    cycles: int = 1
    """With an oracle: how often to learn from the labeled images; in between, as many as the budget are labeled."""
    held_out: float = 0.2
    """With an oracle: share of the images on which accuracy is measured, which are never chosen."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        if self.cycles < 1:
            raise UserError(f"cycles is {self.cycles}: it must be at least 1", code="out-of-range")
        if self.cycles > 1 and self.oracle is None:
            raise UserError(
                f"{self.cycles} cycles need labels in between: name a list of all labels with --oracle, or leave "
                "--cycles out and label each list yourself",
                code="cycles-without-oracle",
            )
        if not 0 < self.held_out < 1:
            raise UserError(f"held_out is {self.held_out:g}: it must be between 0 and 1", code="out-of-range")


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """How the strategy moby trains its network, by the method MoBYv2AL."""

    backbone: str = "resnet18"
    """Network, any name of timm's."""
    epochs: float = 200
    """Passes over the labeled images, with as many of the others."""
    batch_size: int = 128
    """Images per step; less for few labels."""
    lr: float = 0.02
    """Learning rate of SGD for a batch of 256; a tenth of it after 60 % of the epochs, and again after 80 %."""
    contrast_weight: float = 0.5
    """Weight of the part of the loss that needs no labels."""
    choice: Literal["k-center", "random"] = "k-center"
    """What is chosen with the features of the network; random for comparison."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        for name in ("epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name):g}: it must be above 0", code="out-of-range")
        if self.contrast_weight < 0:
            raise UserError(f"contrast_weight is {self.contrast_weight:g}: it must be 0 or more", code="out-of-range")
