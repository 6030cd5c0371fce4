"""Schedules: pure functions of where the run is, evaluated once per optimiser step."""

import math
from collections.abc import Sequence


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` (at `progress` 0) to `end` (at 1), flat at both ends.

    The momentum of the EMA copies (0.996 -> 1, BYOL section 3.3) and the weight of SDSSL's intermediate layers
    (0 -> alpha_end: `alpha_end / 2 * (1 - cos(pi s / S))` at step s of S) both rise this way.
    """
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))


def warmup_cosine(step: int, steps: int, warmup_steps: int, base: float, final: float = 0.0) -> float:
    """Linear warm-up from 0, then half a cosine from `base` down to `final` (the learning rate of SDSSL and MoCo v3).

    The warm-up takes the steps 0 .. `warmup_steps` - 1 and reaches `base` on the last of them; the cosine starts, at
    `base`, on the next: the convention of DINO, and of the SDSSL authors, whose learning rates this reproduces.
    """
    if step < warmup_steps:
        return base * step / max(1, warmup_steps - 1)
    return cosine(base, final, (step - warmup_steps) / (steps - warmup_steps))


def warmup_multistep(step: int, milestones: Sequence[int], warmup_steps: int, base: float, gamma: float) -> float:
    """Linear warm-up, then `base`, multiplied by `gamma` at each of the steps `milestones`.

    The warm-up takes the steps 0 .. `warmup_steps` - 1, the first at base / warmup_steps and the last at `base`: the
    convention of the W-MSE authors (htdt/self-supervised d9662c8).
    """
    drops = sum(step >= milestone for milestone in milestones)
    return base * gamma**drops * min(1.0, (step + 1) / max(1, warmup_steps))
