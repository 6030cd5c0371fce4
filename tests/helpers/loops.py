"""Hosts and SDSSL written as loops over rows, from their formulas; nothing of limbeck is used.

Heads are given as the state of an `nn.Sequential` (Linear, BatchNorm, ReLU, ..., Linear [, BatchNorm without affine]).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def vit_layers(model: Any, x: Tensor) -> list[Tensor]:
    """Return h_1 .. h_L: the CLS token after each block, through the one final LayerNorm."""
    tokens = model._pos_embed(model.patch_embed(x))
    found = []
    for block in model.blocks:
        tokens = block(tokens)
        found.append(model.norm(tokens)[:, 0])
    return found


def batchnorm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    columns = []
    for column in x.unbind(1):
        mean = sum(column) / len(column)
        variance = sum((v - mean) ** 2 for v in column) / len(column)
        columns.append((column - mean) / torch.sqrt(variance + 1e-5))
    out = torch.stack(columns, 1)
    return out if weight is None or bias is None else out * weight + bias


def mlp(x: Tensor, state: State, trailing_norm: bool) -> Tensor:
    linears = sorted(int(k.split(".")[0]) for k, v in state.items() if v.dim() == 2)
    for index in linears:
        x = x @ state[f"{index}.weight"].T + state.get(f"{index}.bias", 0)
        if index != linears[-1]:
            x = batchnorm(x, state[f"{index + 1}.weight"], state[f"{index + 1}.bias"]).clamp(min=0)
    return batchnorm(x) if trailing_norm else x


def cos(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def byol(queries: Tensor, targets: Tensor) -> Tensor:
    return torch.stack([2 - 2 * cos(q, t) for q, t in zip(queries, targets, strict=True)]).mean()


def mocov3(queries: Tensor, keys: Tensor, tau: float = 0.2) -> Tensor:
    total = queries.new_zeros(())
    for i, q in enumerate(queries):
        total = total - torch.log(torch.exp(cos(q, keys[i]) / tau) / sum(torch.exp(cos(q, k) / tau) for k in keys))
    return 2 * tau * total / len(queries)


def simclr(queries: Tensor, targets: Tensor, tau: float = 0.2) -> Tensor:
    rows, total = len(queries), queries.new_zeros(())
    for i, q in enumerate(queries):
        positive = (i + rows // 2) % rows
        others = sum(torch.exp(cos(q, targets[j]) / tau) for j in range(rows) if j != i)
        total = total - torch.log(torch.exp(cos(q, targets[positive]) / tau) / others)
    return total / rows


def rise(alpha: float, step: int, steps: int) -> float:
    return alpha / 2 * (1 - math.cos(math.pi * step / steps))


def adamw(p: Tensor, grad: Tensor, lr: float, decay: float) -> Tensor:
    """Return the first step of AdamW with betas (0.9, 0.999), eps 1e-8: bias-corrected moments that start at 0."""
    first, second = (0.1 * grad) / (1 - 0.9), (0.001 * grad * grad) / (1 - 0.999)
    return p - lr * decay * p - lr * first / (second.sqrt() + 1e-8)
