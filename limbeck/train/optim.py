"""Optimisers (torch's and timm's) over two groups of parameters: with weight decay and without."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.errors import UserError
from limbeck.core.schedules import warmup_cosine, warmup_multistep
from limbeck.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Defaults are those of SDSSL and MoCo v3 for ViTs; for LARS, BYOL takes lr 0.2 and weight decay 1.5e-6."""

    name: Literal["adamw", "adam", "lars", "sgd"] = "adamw"
    """Optimiser; adam adds the decay to the gradient (L2), lars and sgd are without Nesterov momentum."""
    lr: float = 1.5e-4
    """Learning rate for a batch of 256; the peak is this x batch / 256."""
    weight_decay: float = 0.1
    """Not applied to biases and 1-D tensors (the scales of norms)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of adamw and adam."""
    momentum: float = 0.9
    """Of lars and sgd."""
    clip_grad_norm: float | None = None
    """Largest norm of the whole gradient."""
    milestone_epochs: tuple[float, ...] | None = None
    """Epochs at which the learning rate is multiplied by gamma, and between which it is constant; without them it falls
    to 0 along a cosine."""
    gamma: float = 0.1
    """Of the milestones."""

    def __post_init__(self) -> None:
        """Raises UserError for a rate that would rise or vanish at a milestone."""
        if not 0 < self.gamma <= 1:
            raise UserError(
                f"gamma is {self.gamma}: the learning rate is multiplied by it, so take more than 0 up to 1"
            )


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: tensors of 2 dimensions and more are decayed (a CLS token is 3-D), biases and 1-D tensors are not.

    LARS adapts the rate of the first group alone, also when `weight_decay` is 0. Frozen parameters are left out.
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    plain = [name.endswith("bias") or parameter.ndim <= 1 for name, parameter in trained]
    decayed = [parameter for (_, parameter), skip in zip(trained, plain, strict=True) if not skip]
    rest = [parameter for (_, parameter), skip in zip(trained, plain, strict=True) if skip]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, "always_adapt": True},
        {"params": rest, "weight_decay": 0.0, "always_adapt": False},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, cfg: OptimConfig) -> Optimizer:
    """The optimiser of `cfg` for the trained parameters of `module`, in torch's fused form where there is one."""
    from timm.optim import create_optimizer_v2

    groups = parameter_groups(module.named_parameters(), cfg.weight_decay)
    options: dict[str, dict[str, Any]] = {
        "adamw": {"opt": "adamw", "betas": cfg.betas, "fused": True},
        "adam": {"opt": "adam", "betas": cfg.betas, "fused": True},
        "sgd": {"opt": "momentum", "momentum": cfg.momentum, "fused": True},  # timm's "sgd" is Nesterov's
        "lars": {"opt": "lars", "momentum": cfg.momentum},
    }
    optimizer: Optimizer = create_optimizer_v2(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, **options[cfg.name])
    return optimizer


def warmup_steps(run: TrainConfig, epoch: int) -> int:
    """Steps of linear warm-up; `epoch` is the number of steps in an epoch."""
    return round((run.epochs / 10 if run.warmup_epochs is None else run.warmup_epochs) * epoch)


def check_milestones(cfg: OptimConfig, run: TrainConfig) -> None:
    """UserError where a drop of the learning rate would come after the end of the run."""
    late = [m for m in cfg.milestone_epochs or () if m >= run.epochs]
    if late:
        raise UserError(f"milestone {late[0]:g} is beyond the {run.epochs:g} epochs; take one below or leave it out")


def set_learning_rate(optimizer: Optimizer, cfg: OptimConfig, run: TrainConfig, step: int, epoch: int) -> float:
    """Sets and returns the learning rate of an optimiser step: warm-up, then cosine to 0 or drops at milestones.

    It is in proportion to the batch. `epoch` is the number of steps in an epoch.
    """
    peak = cfg.lr * run.batch_size / 256
    warmup = warmup_steps(run, epoch)
    if cfg.milestone_epochs is None:
        lr = warmup_cosine(step, run.steps(epoch), warmup, peak)
    else:
        lr = warmup_multistep(step, [round(m * epoch) for m in cfg.milestone_epochs], warmup, peak, cfg.gamma)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float | None) -> Tensor:
    """The norm of the whole gradient, which is then scaled down to `largest` if it is above."""
    having = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in having if parameter.grad is not None])
    if largest is not None:
        nn.utils.clip_grads_with_norm_(having, largest, norm)
    return norm
