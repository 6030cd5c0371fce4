"""Initialization of vision transformers: MoCo v3's weights and its fixed sin-cos positions.

Source: Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021, and the
authors' `vits.py`; SDSSL's release initializes its networks in the same way.
"""

from typing import Any

import torch
from jaxtyping import Float
from timm.models.vision_transformer import init_weights_vit_moco
from torch import Tensor, nn

TEMPERATURE = 10_000.0  # of the frequencies, as in MoCo v3


def sincos_positions(rows: int, columns: int, dim: int) -> Float[Tensor, "positions D"]:
    """Return fixed positions of a grid of patches in row-major order; `dim` is a multiple of four.

    With f_k = TEMPERATURE^(-k / (dim / 4)), k < dim / 4, the patch in row r and column c holds
    (sin r f, cos r f, sin c f, cos c f). (The authors call the outer coordinate `w`; on their square grids that is
    the row.) Angles are computed in float64; timm's `build_sincos2d_pos_embed(interleave_sin_cos=True)` computes the
    same table with float32 angles, which differs by up to 1e-6.
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
    """Draw MoCo v3's weights: timm's version for linear layers, CLS ~ N(0, 1e-6), a Xavier-uniform patch projection.

    The patch projection is drawn as if each patch were one flat input of 3 p p numbers.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            init_weights_vit_moco(module, name)
    if model.cls_token is not None:
        nn.init.normal_(model.cls_token, std=1e-6)
    projection = model.patch_embed.proj
    nn.init.xavier_uniform_(projection.weight.flatten(1))
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
