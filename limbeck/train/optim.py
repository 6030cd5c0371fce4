"""Optimizers (torch's and timm's) over groups of parameters with and without weight decay, and the learning rate."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.errors import UserError
from limbeck.core.schedules import warmup_cosine, warmup_multistep
from limbeck.train.config import TrainConfig

HEAD = "classifier."  # prefix of the parameters that have a learning rate of their own


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and learning rate. The defaults are those of SDSSL and MoCo v3 for ViTs.

    With LARS, BYOL uses lr 0.2 and weight decay 1.5e-6.
    """

    name: Literal["adamw", "adam", "lars", "sgd"] = "adamw"
    """Optimizer; adam adds the decay to the gradient (L2), lars and sgd have momentum without Nesterov."""
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


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, head_lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Split the trained parameters into a group with weight decay and one without; the same again for a head.

    Tensors of 2 dimensions and more are decayed (a CLS token is 3-D), biases and 1-D tensors are not. LARS adapts the
    rate of decayed groups only, also if `weight_decay` is 0. Parameters named `classifier.*` have groups of their own
    if `head_lr_scale` is not 1. Empty groups are left out.
    """
    body = [
        {"params": [], "weight_decay": weight_decay, "always_adapt": True},
        {"params": [], "weight_decay": 0.0, "always_adapt": False},
    ]
    head = [{**group, "params": [], "lr_scale": head_lr_scale} for group in body]
    for name, parameter in named:
        if parameter.requires_grad:
            groups = head if head_lr_scale != 1 and name.startswith(HEAD) else body
            group: dict[str, Any] = groups[name.endswith("bias") or parameter.ndim <= 1]
            group["params"].append(parameter)
    return [group for group in (*body, *head) if group["params"]]


def build_optimizer(module: nn.Module, cfg: OptimConfig, *, fused: bool = True) -> Optimizer:
    """Return the optimizer of `cfg` for the trained parameters of `module`, in torch's fused form if there is one.

    A fused one undoes the scaling of gradients within its step, where they can be neither measured nor clipped.
    """
    from timm.optim import create_optimizer_v2

    groups = parameter_groups(module.named_parameters(), cfg.weight_decay, cfg.head_lr_scale)
    options: dict[str, dict[str, Any]] = {
        "adamw": {"opt": "adamw", "betas": cfg.betas, "fused": fused},
        "adam": {"opt": "adam", "betas": cfg.betas, "fused": fused},
        "sgd": {"opt": "momentum", "momentum": cfg.momentum, "fused": fused},  # timm's "sgd" is Nesterov's
        "lars": {"opt": "lars", "momentum": cfg.momentum},
    }
    optimizer: Optimizer = create_optimizer_v2(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, **options[cfg.name])
    return optimizer


def check_milestones(cfg: OptimConfig, training: TrainConfig) -> None:
    """Raise UserError if a drop of the learning rate would come after the end of the run."""
    late = [milestone for milestone in cfg.milestone_epochs or () if milestone >= training.num_epochs]
    if late:
        raise UserError(
            f"the milestone at epoch {late[0]:g} is not within the {training.num_epochs:g} epochs: "
            "choose an earlier one or leave it out",
            code="milestone-after-end",
        )


def set_learning_rate(
    optimizer: Optimizer, cfg: OptimConfig, training: TrainConfig, step: int, steps_per_epoch: int
) -> float:
    """Set the learning rate of optimizer step `step` in every group and return that of the body.

    Linear warm-up, then a cosine to 0 or drops at milestones; the peak is proportional to the batch size.
    """
    peak = cfg.lr * training.batch_size / 256
    warmup = training.warmup_steps(steps_per_epoch)
    if cfg.milestone_epochs is None:
        lr = warmup_cosine(step, training.total_steps(steps_per_epoch), warmup, peak)
    else:
        milestones = [round(milestone * steps_per_epoch) for milestone in cfg.milestone_epochs]
        lr = warmup_multistep(step, milestones, warmup, peak, cfg.gamma)
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    return lr


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Return the norm of the whole gradient, after scaling the gradient down to `max_norm` if it is longer."""
    with_grad = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in with_grad if parameter.grad is not None])
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(with_grad, max_norm, norm)
    return norm
