"""The request for a run; `runs.resolve` chooses everything that it leaves out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from torch import nn

from limbeck.core.config import EncoderConfig
from limbeck.data.check.issues import ALLOW_BAD
from limbeck.data.sources.open import Source
from limbeck.methods import MethodConfig
from limbeck.models.config import StartConfig
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Data and settings of a run; a setting that is None is chosen."""

    source: Source
    """A folder, parquet files, a store, arrays, ... (`limbeck.data.sources`)."""
    backbone: EncoderConfig | None = None
    """By default a ViT-Tiny, as a student a ResNet-18, and on a CPU a plain CNN for images of up to 96 pixels."""
    method: MethodConfig | None = None
    """By default SimCLR, with a teacher SimReg; a short run on a CPU takes a recipe (`runs.choose`)."""
    optim: OptimConfig | None = None
    """By default AdamW, and LARS for convolutional networks without a teacher."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """How long to train, on which devices, and how often to log, evaluate and save."""
    time: str | float | None = None
    """In place of `training.epochs`: end within this time, such as "30m", or in seconds; the speed is measured."""
    quick: bool = False
    """Get a first impression in ten minutes, or in `time`: small network, small images, cheap method."""
    start: StartConfig | None = None
    """The trained weights to start from; their network is the default of `backbone`."""
    teacher: TeacherConfig | None = None
    """The frozen network to distill from."""
    teacher_module: nn.Module | None = None
    """The teacher itself, if it is a module of your own."""
    store_size: int | None = None
    """Side of the stored images in pixels, as in `limbeck.build_store`."""
    companion: str | Path | None = None
    """A store of depth with a row for every image, for a method that compares with it."""
    allow_bad: float = ALLOW_BAD
    """Fraction of the images that may be unreadable."""
    exclude: tuple[str, ...] = ()
    """Patterns of images that are left out, as in `limbeck.build_store`."""
    only: tuple[str, ...] = ()
    """Patterns; images that match none of them are left out."""
    max_images: int | None = None
    """Of a source with more images, take so many, drawn at random; by default what can be prepared within `time`."""


class RunSettings(TypedDict, total=False):
    """The keyword arguments that `pretrain`, `distill` and `plan` have in common; see `RunRequest`."""

    method: MethodConfig | None
    optim: OptimConfig | None
    training: TrainConfig
    time: str | float | None
    quick: bool
    start: StartConfig | None
    store_size: int | None
    companion: str | Path | None
    allow_bad: float
    exclude: tuple[str, ...]
    only: tuple[str, ...]
    max_images: int | None
