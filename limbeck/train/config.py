"""Settings of a training run, apart from the method, the backbone and the optimizer."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError

LoggerName = Literal["auto", "tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, on which devices, and how often to log, evaluate and save."""

    epochs: float = 100
    """Passes over the images; a fraction ends within a pass."""
    batch_size: int = 256
    """Images per optimizer step, over all devices and micro-batches."""
    accumulate_steps: int = 1
    """Micro-batches per optimizer step, for batches beyond the memory; negatives come from the same micro-batch."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up of the learning rate; by default a tenth of the epochs."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, the augmentations and the method's own random numbers."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the networks; auto is bf16 if the hardware supports it. Weights are float32 in any case."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Kind of device to train on; auto is CUDA if there is any."""
    devices: int = 1
    """Processes per machine, each with its own device."""
    num_nodes: int = 1
    """Machines."""
    compile: bool = False
    """Compile the backbones with torch.compile: a minute or more at the start, faster steps on GPUs."""
    eval_every_epochs: int = 10
    """Epochs between evaluations of the encoder (k-NN with labels, fidelity with a teacher); 0 for none."""
    checkpoint_every_minutes: float = 10.0
    """Minutes between checkpoints; 0 writes one after every epoch."""
    log_every_steps: int = 20
    """Optimizer steps between rows of metrics.csv, which also has one per epoch; every row waits for the device."""
    loggers: tuple[LoggerName, ...] = ("auto",)
    """Experiment trackers that get the rows of metrics.csv as well; auto is TensorBoard if its package is installed."""
    health_every_steps: int = 200
    """Optimizer steps between health readings (docs/health.md), with one more at the end; 0 for none."""
    stop_on_collapse: bool = True
    """Stop when the representations have collapsed, and go back to the last healthy checkpoint."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        if self.epochs <= 0:
            raise UserError(f"epochs is {self.epochs:g}: it must be above 0", code="out-of-range")
        for field in ("batch_size", "accumulate_steps", "devices", "num_nodes", "log_every_steps"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} is {getattr(self, field)}: it must be at least 1", code="out-of-range")
        if self.warmup_epochs is not None and not 0 <= self.warmup_epochs < self.epochs:
            raise UserError(
                f"warmup_epochs is {self.warmup_epochs}: it must be at least 0 and below the {self.epochs:g} epochs",
                code="out-of-range",
            )

    @property
    def num_processes(self) -> int:
        """Processes of the run, over all machines."""
        return self.devices * self.num_nodes

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the optimizer steps of the run, at least one."""
        return max(1, round(self.epochs * steps_per_epoch))

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Return the optimizer steps of the linear warm-up."""
        return round((self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs) * steps_per_epoch)
