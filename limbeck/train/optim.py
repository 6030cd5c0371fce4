"""Optimizers (torch's and timm's) over groups of parameters with and without weight decay, and the learning rate."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.schedules import warmup_cosine, warmup_multistep
from limbeck.train.config import OptimConfig, TrainConfig

HEAD = "classifier."  # prefix of the parameters that have a learning rate of their own


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
