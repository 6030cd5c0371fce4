"""The smallest method that the loop can train: a linear layer with BatchNorm, its average, a queue and some noise."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from limbeck.core.types import Batch, Features, LossOutput, StepInfo
from limbeck.data.augment.views import View
from limbeck.data.sampling import view_specs
from limbeck.data.store.store import Store
from limbeck.methods.base import Method
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.eval_callback import EvalCallback
from limbeck.train.loop import train

VIEWS = view_specs([View(size=8), View(size=8, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)])


class Net(nn.Sequential):
    """Layers with the outputs of an encoder of depth 1."""

    taps = (1,)

    def forward(self, images: torch.Tensor, taps: tuple[int, ...] = (), feature_maps: bool = False) -> Features:
        final = super().forward(images)
        return Features(
            final, dict.fromkeys(taps, final), dict.fromkeys(taps if feature_maps else (), final[..., None])
        )


class Toy(Method):
    """Predict the average of itself over time; draw noise, so that random numbers matter; remember rows."""

    def __init__(self, norm: bool = True, noise: float = 0.01) -> None:
        super().__init__()
        layers = [nn.Flatten(), nn.Linear(3 * 8 * 8, 6), *([nn.BatchNorm1d(6)] if norm else [])]
        self.backbone: Any = Net(*layers)
        self.average: Any = copy.deepcopy(self.backbone).requires_grad_(False)
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.full((40,), -1))
        self.noise = noise
        self.clocks: list[StepInfo] = []

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        first, second = (self.backbone(view).final.float() for view in batch.views)
        target = self.average(batch.views[0]).final.float()
        noise = self.noise * torch.randn_like(first)
        near, far = (first + noise - target).square().mean(), (second - target).square().mean()
        return LossOutput(near + far, {"near": near, "far": far}, {"rows": batch.indices})

    def target_encoder(self) -> Any:
        return self.average

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        self.clocks.append(step_info)
        self.seen.copy_(torch.cat([loss.memory["rows"], self.seen])[:40])
        for average, live in zip(self.average.parameters(), self.backbone.parameters(), strict=True):
            average.lerp_(live, 0.1)


def toy(seed: int = 0, kind: type[Toy] = Toy, **arguments: Any) -> Toy:
    """Return a toy with the weights of a seed."""
    torch.manual_seed(seed)
    return kind(**arguments)


def noise(count: int = 40) -> Store:
    """Return a labeled store of noise, 10 pixels squared."""
    images = np.random.default_rng(0).integers(0, 256, (count, 10, 10, 3), dtype=np.uint8)
    return Store.from_arrays(images, np.arange(count) % 4)


def fit(
    run: Path,
    method: Toy,
    *,
    optim: OptimConfig | None = None,
    eval_callback: EvalCallback | None = None,
    resume: bool = False,
    config: Any = None,
    **settings: Any,
) -> Toy:
    """Train on noise: 2 epochs of 5 steps of 8 images on the CPU, unless `settings` (of TrainConfig) differ."""
    cfg = TrainConfig(**{"epochs": 2, "batch_size": 8, "precision": "fp32", "accelerator": "cpu", **settings})
    optim = optim or OptimConfig(lr=0.1)
    train(method, noise(), VIEWS, cfg, optim, run, config=config or {}, eval_callback=eval_callback, resume=resume)
    return method
