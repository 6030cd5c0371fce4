"""How a vision transformer starts: MoCo v3's initialisation and its fixed sin-cos positions.

Source: Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021, and the
authors' `vits.py`; SDSSL's release starts its networks in the same way.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

TEMPERATURE = 10_000.0  # of the frequencies, as in MoCo v3


def sincos_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Fixed positions [rows * columns, dim] of a grid of patches, in row-major order.

    With f_k = TEMPERATURE^(-k / (dim / 4)), k < dim / 4, the patch in row r and column c holds
    (sin r f, cos r f, sin c f, cos c f). (The authors call the outer coordinate `w`; on their square grids that is
    the row.) `dim` is a multiple of four.
    """
    frequencies = TEMPERATURE ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [position.flatten()[:, None] * frequencies for position in (row, column)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()


@torch.no_grad()
def fix_positions(model: Any) -> None:
    """Write sin-cos positions into a timm ViT and freeze them; the rows of CLS and register tokens are zero."""
    rows, columns = model.patch_embed.grid_size
    positions = sincos_positions(rows, columns, model.embed_dim)
    prefix = model.pos_embed.shape[1] - len(positions)
    model.pos_embed.copy_(torch.cat([positions.new_zeros(prefix, model.embed_dim), positions]))
    model.pos_embed.requires_grad = False


@torch.no_grad()
def init_as_moco(model: Any) -> None:
    """Xavier-uniform linear layers (q, k and v each on its own) and patch projection, zero biases, CLS ~ N(0, 1e-6)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            parts = 3 if name.endswith("qkv") else 1
            for weight in module.weight.chunk(parts):
                nn.init.xavier_uniform_(weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if model.cls_token is not None:
        nn.init.normal_(model.cls_token, std=1e-6)
    _init_patch_projection(model.patch_embed.proj)


def _init_patch_projection(projection: nn.Conv2d) -> None:
    """Xavier-uniform as if each patch were one flat input of 3 p p numbers."""
    fan_in = projection.weight[0].numel()
    bound = math.sqrt(6 / (fan_in + projection.out_channels))
    nn.init.uniform_(projection.weight, -bound, bound)
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
