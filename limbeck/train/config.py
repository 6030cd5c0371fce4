"""What a user can say about a training run, apart from the method, the backbone and the optimiser."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, on what, and how often to look."""

    epochs: float = 100
    """Passes over the images; the last may be part of one."""
    batch_size: int = 256
    """Images per optimiser step, over all devices and micro-batches."""
    accumulate_steps: int = 1
    """Micro-batches per optimiser step, for batches beyond the memory; negatives come from the same micro-batch."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up of the learning rate; a tenth of the epochs if not given."""
    seed: int = 0
    """Of the order of the images, the augmentations and whatever a method draws."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the networks; auto takes bf16 where the hardware has it. Weights are float32 either way."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA if there is any."""
    devices: int = 1
    """Processes per machine, each with its own device."""
    num_nodes: int = 1
    """Machines."""
    compile: bool = False
    """Compile the backbones with torch.compile: a minute or more at the start, faster steps on GPUs."""
    eval_every_epochs: int = 10
    """Epochs between k-NN scores, if the images have labels; 0 for none."""
    checkpoint_every_minutes: float = 10.0
    """Minutes between checkpoints; 0 writes one after every epoch."""
    log_every_steps: int = 20
    """Optimiser steps between rows of metrics.csv, which also gets one after every epoch; each waits for the device."""
    health_every_steps: int = 200
    """Optimiser steps between readings of health (docs/health.md), one more being taken at the end; 0 for none."""
    stop_on_collapse: bool = True
    """End a run whose embeddings have collapsed, at its last healthy checkpoint."""

    def __post_init__(self) -> None:
        """Raises UserError for a number that makes no run."""
        if self.epochs <= 0:
            raise UserError(f"epochs is {self.epochs:g}: it must be above 0")
        for field in ("batch_size", "accumulate_steps", "devices", "num_nodes", "log_every_steps"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} is {getattr(self, field)}: it must be at least 1")
        if self.warmup_epochs is not None and not 0 <= self.warmup_epochs < self.epochs:
            raise UserError(
                f"warmup_epochs is {self.warmup_epochs}: it must be at least 0 and below the {self.epochs:g} epochs"
            )

    def steps(self, epoch: int) -> int:
        """Optimiser steps of the run, for epochs of so many; at least one."""
        return max(1, round(self.epochs * epoch))
