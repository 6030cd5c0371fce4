"""Settings of a training run, apart from the method, the backbone and the optimizer."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from limbeck.core.errors import UserError
from limbeck.train.length import auto_epochs

LoggerName = Literal["auto", "tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, on which devices, and how often to log, evaluate and save."""

    epochs: Literal["auto"] | float = "auto"
    """Passes over the images, also a fraction; auto is 1,000 for up to 1,000 images, 100 for 100,000, less on a CPU."""
    batch_size: int = 256
    """Images per optimizer step, over all devices and micro-batches; less for a smaller set."""
    accumulate_steps: int = 1
    """Micro-batches per optimizer step, for batches beyond the memory; negatives come from the same micro-batch."""
    progressive_resizing: float = 0.0
    """Share of the optimizer steps, from the first, whose views have fewer pixels (--initial-scale); 0: none."""
    initial_scale: float = 0.5
    """Side of the views in the steps of progressive resizing, as a share of their own, rounded to suit the network."""
    patch_drop_rate: float = 0.0
    """ViTs: share of the patches of each view that the trained network does not see; evaluation sees all of them."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up of the learning rate; by default a tenth of the epochs."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, the augmentations and the method's own random numbers."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision of the networks; auto is bf16, on CUDA devices without it fp16 with loss scaling. Weights are fp32."""
    attention: Literal["auto", "fused", "plain"] = "auto"
    """Attention of ViTs: torch's fused kernel, or products and a softmax. auto is fused, unless a run of five minutes
    on a CPU, or a longer one, finds the other to be faster. Memory format and precision are measured likewise."""
    memory_format: Literal["auto", "channels-last", "contiguous"] = "auto"
    """Order of activations and weights in memory; auto is channels-last, unless the other is found to be faster."""
    measured_on: str = field(default="", metadata={"internal": True})
    """Machine on which precision, attention and memory format were chosen by measurement; empty if they were not."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device to train on; auto is CUDA if there is any, else the CPU; mps is the GPU of a Mac."""
    devices: int = 1
    """Processes per machine, each with its own device."""
    num_nodes: int = 1
    """Machines."""
    compile: bool = False
    """Compile the backbones with torch.compile: a minute or more at the start, faster steps on GPUs."""
    eval_every_epochs: int = 10
    """Epochs between evaluations of the encoder (k-NN with labels, fidelity with a teacher), with one more at the end;
    0 for none."""
    checkpoint_every_minutes: float = 10.0
    """Minutes between checkpoints; 0 writes one after every epoch."""
    log_every_steps: int = 20
    """Optimizer steps between rows of metrics.csv, which also has one per epoch; every row waits for the device."""
    loggers: tuple[LoggerName, ...] = ("auto",)
    """Experiment trackers that get the rows of metrics.csv as well; auto is TensorBoard if its package is installed."""
    health_every_steps: int = 200
    """Optimizer steps between health readings (docs/health.md), with one more at the end; 0 for none."""
    stop_on_collapse: bool = True
    """Stop at the last healthy checkpoint when the representations have collapsed. Nothing else ends a run early:
    no measure without labels was shown to know when (docs/evaluation.md)."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        if self.epochs != "auto" and not 0 < self.epochs < math.inf:
            raise UserError(f"epochs is {self.epochs:g}: it must be above 0", code="out-of-range")
        for name in ("batch_size", "accumulate_steps", "devices", "num_nodes", "log_every_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1", code="out-of-range")
        self._check_pixels()
        if self.warmup_epochs is not None and not (
            0 <= self.warmup_epochs < (math.inf if self.epochs == "auto" else self.epochs)
        ):
            raise UserError(
                f"warmup_epochs is {self.warmup_epochs}: it must be at least 0 and below the {self.epochs} epochs",
                code="out-of-range",
            )

    def _check_pixels(self) -> None:
        """Raise UserError for shares of steps, sides or patches that leave nothing, or have no effect."""
        for name in ("progressive_resizing", "patch_drop_rate"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UserError(f"{name} is {value:g}: it must be at least 0 and below 1", code="out-of-range")
        if not 0 < self.initial_scale < 1:
            raise UserError(
                f"initial_scale is {self.initial_scale:g}: it must be above 0 and below 1", code="out-of-range"
            )
        if not self.progressive_resizing and self.initial_scale != type(self).initial_scale:
            raise UserError(
                f"--initial-scale {self.initial_scale:g} has no effect without --progressive-resizing: add it, such as "
                "--progressive-resizing 0.5",
                code="no-effect",
            )

    def with_epochs(self, images: int, device: str) -> "TrainConfig":
        """Return this configuration with a number of epochs, for so many images on this kind of device."""
        return replace(self, epochs=float(auto_epochs(images, device))) if self.epochs == "auto" else self

    @property
    def num_epochs(self) -> float:
        """The epochs, once they are a number."""
        assert self.epochs != "auto", "`with_epochs` chooses the epochs"
        return self.epochs

    @property
    def num_processes(self) -> int:
        """Processes of the run, over all machines."""
        return self.devices * self.num_nodes

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the optimizer steps of the run, at least one."""
        return max(1, round(self.num_epochs * steps_per_epoch))

    def small_steps(self, total_steps: int) -> int:
        """Return the number of optimizer steps, from the first, that have smaller views."""
        return round(self.progressive_resizing * total_steps)

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Return the optimizer steps of the linear warm-up."""
        return round((self.num_epochs / 10 if self.warmup_epochs is None else self.warmup_epochs) * steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and learning rate. The defaults are those of SDSSL and MoCo v3 for ViTs.

    With LARS, BYOL uses lr 0.2 and weight decay 1.5e-6.
    """

    name: Literal["adamw", "adam", "lars", "sgd"] = "adamw"
    """Optimizer; adam decays by L2, lars and sgd have momentum without Nesterov."""
    lr: float = 1.5e-4
    """Learning rate for a batch of 256; the peak is lr x batch size / 256."""
    weight_decay: float = 0.1
    """Weight decay; biases and 1-D tensors (the scales of norms) have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments in adamw and adam."""
    momentum: float = 0.9
    """Momentum of lars and sgd."""
    clip_grad_norm: float | None = None
    """Largest norm of the whole gradient; a longer one is scaled down to it."""
    milestone_epochs: tuple[float, ...] | None = None
    """Epochs at which the constant learning rate is multiplied by gamma; by default it decays to 0 along a cosine."""
    gamma: float = 0.1
    """Factor of the learning rate at each milestone."""
    head_lr_scale: float = 1.0
    """Factor of the learning rate for parameters named classifier.*: a fresh head on a trained encoder."""

    def __post_init__(self) -> None:
        """Raise UserError for factors of the learning rate that make no sense."""
        if not 0 < self.gamma <= 1:
            raise UserError(
                f"gamma is {self.gamma}: the learning rate is multiplied by it, so choose more than 0 and at most 1",
                code="out-of-range",
            )
        if self.head_lr_scale <= 0:
            raise UserError(f"head_lr_scale is {self.head_lr_scale}: it must be above 0", code="out-of-range")


def check_milestones(cfg: OptimConfig, training: TrainConfig) -> None:
    """Raise UserError if a drop of the learning rate would come after the end of the run."""
    late = [milestone for milestone in cfg.milestone_epochs or () if milestone >= training.num_epochs]
    if late:
        raise UserError(
            f"the milestone at epoch {late[0]:g} is not within the {training.num_epochs:g} epochs: "
            "choose an earlier one or leave it out",
            code="milestone-after-end",
        )
