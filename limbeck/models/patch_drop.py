"""Patch dropout: a ViT in training sees a random part of the patches of every image, and all of them otherwise.

Liu, Matsoukas, Strand, Azizpour and Smith, *PatchDropout: Economizing Vision Transformers Using Patch Dropout*, WACV
2023 (arXiv 2208.07220). timm's module draws from torch's generator, so that an image would lose other patches in
another process or micro-batch. Here they follow from the seed, the step and the row of the image alone.
"""

from typing import Any

import numpy as np
import timm
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.data.augment.color import to_device
from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.models.backbone import Backbone

FAMILIES = ("vision_transformer", "vision_transformer_hybrid", "deit")
"""timm modules of ViTs that place a module `patch_drop` between positions and blocks, and need no grid after it."""
PATCH_DRAW = -1000
"""The number that the draw of patches in the first pass has among the numbers of views; later passes are below it."""


class PatchDrop(nn.Module):
    """Drop a share of the patches, other ones in every pass of a step; prefix tokens such as CLS stay.

    Args:
        rate: share of the patches that are dropped; at least one stays.
        prefix: tokens before the patches.
    """

    def __init__(self, rate: float, prefix: int) -> None:
        super().__init__()
        self.rate, self.prefix = rate, prefix
        self.begin(np.zeros(0, np.int64), seed=0, step=0)

    def begin(self, rows: NDArray[np.int64], seed: int, step: int) -> None:
        """Say which rows of the store the next passes are of, [B]: each has these images, in one or several views."""
        self._rows, self._seed, self._step, self._passes = rows, seed, step, 0

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, tokens: Float[Tensor, "N L D"]) -> Float[Tensor, "N P D"]:
        """Return the prefix and the patches that stay, in their order; in evaluation mode everything."""
        if not self.training:
            return tokens
        prefix, patches = tokens.split([self.prefix, tokens.shape[1] - self.prefix], dim=1)
        places = to_device(self._places(*patches.shape[:2]), tokens.device)
        chosen = patches.gather(1, places[..., None].expand(-1, -1, patches.shape[2]))
        return torch.cat([prefix, chosen], dim=1)

    def _places(self, count: int, patches: int) -> NDArray[np.int64]:
        """Return the places of the patches that stay in a pass of `count` images, [N P], ascending."""
        rows = self._rows if len(self._rows) and count % len(self._rows) == 0 else np.arange(count)
        views = range(self._passes, self._passes + count // len(rows))
        self._passes = views.stop
        draws = [hash_uniforms(self._seed, self._step, PATCH_DRAW - view, rows, patches) for view in views]
        most = max(1, round((1 - self.rate) * patches))
        return np.sort(np.concatenate(draws).argsort(axis=1)[:, :most], axis=1)


def check_patch_drop(name: str) -> None:
    """Raise UserError unless timm's network `name` is a ViT that works with a part of its patches."""
    if not timm.models.is_model_in_modules(name, FAMILIES):
        raise UserError(
            f"'{name}' cannot leave out patches: leave --patch-drop-rate out, or take a ViT of timm's "
            f"{', '.join(FAMILIES)}, such as vit_tiny_patch16_224",
            code="no-patches-to-drop",
        )


def add_patch_drop(method: nn.Module, rate: float) -> list[PatchDrop]:
    """Let the networks that `method` trains drop patches, in place, and return what does it; EMA encoders see all.

    Raises:
        UserError: a network has no patches, or needs all of them.
    """
    found = []
    for module in method.modules():
        if isinstance(module, Backbone) and any(parameter.requires_grad for parameter in module.parameters()):
            check_patch_drop(module.cfg.name)
            model: Any = module.model
            model.patch_drop = PatchDrop(rate, model.num_prefix_tokens)
            found.append(model.patch_drop)
    return found
