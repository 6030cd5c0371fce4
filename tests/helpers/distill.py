"""The smallest distillation: 100 digits, a narrow ResNet, and a module of one's own as the teacher."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data.samples import digits
from limbeck.methods import DistillConfig, distill_config
from limbeck.models.config import BackboneConfig
from limbeck.runs.api import distill
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import TrainConfig
from tests.helpers.tiny import SIZES, shrink

COUNT = 100
NARROW: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8]}
STUDENT = BackboneConfig(name="resnet18", image_size=16, args=NARROW)
TRAINING = TrainConfig(epochs=2, batch_size=20, eval_every_epochs=1, precision="fp32")
CUSTOM = TeacherConfig(name="custom", image_size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), precision="fp32")


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return 100 digits at 16 pixels with their labels."""
    pixels, labels = digits()
    return np.ascontiguousarray(pixels[:COUNT, 6:22, 6:22]), labels[:COUNT]


class Quarters(nn.Module):
    """A teacher that returns mixes of the brightness of sixteen parts of an image, and a feature map of these parts."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.mix = nn.Linear(48, 12)
        with torch.no_grad():
            self.mix.weight.copy_(torch.randn(12, 48, generator=torch.Generator().manual_seed(seed)))
            self.mix.bias.zero_()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        places = nn.functional.adaptive_avg_pool2d(pixels, 4)
        vector: Tensor = self.mix(places.flatten(1))
        return vector, places


def small(name: str) -> DistillConfig:
    """Return a distiller with small heads and a queue of 40."""
    config: DistillConfig = shrink(distill_config(name)(), SIZES | {"queue_size": 40})
    return config


def distill_digits(out: Path, teacher: TeacherConfig = CUSTOM, **settings: Any) -> Path:
    """Distill `Quarters` into the narrow ResNet, unless `settings` differ."""
    defaults: dict[str, Any] = {"student": STUDENT, "training": TRAINING, "teacher_module": Quarters()}
    return distill(images(), out, teacher=teacher, **(defaults | settings))
