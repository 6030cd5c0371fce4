"""One pass over a store: the features of every tap of a backbone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.models.backbone import Backbone
from limbeck.passes import Look, collect


def extract(
    backbone: Backbone,
    look: Look,
    rows: np.ndarray,
    *,
    taps: Sequence[int] | None = None,
    device: torch.device,
    batch_size: int = 256,
    bf16: bool = False,
    memory: int = 2**32,
    show: str = "",
) -> dict[int, Tensor]:
    """Pooled features at `taps` (all if None), tap -> float32 [N D_tap], of the images that `look` shows at `rows`.

    One forward pass per batch, in eval mode (the mode of `backbone`, which is moved to `device`, is restored);
    `batch_size`, `memory` and `show` are those of `passes.collect`.
    """
    backbone.to(device)
    dims = {tap: backbone.tap_dims[tap] for tap in backbone.taps if taps is None or tap in taps}

    def say(images: Tensor) -> dict[int, Tensor]:
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            return backbone(images, taps=tuple(dims)).taps

    with _eval_mode(backbone):
        return collect(say, look, rows, dims, device=device, batch_size=batch_size, memory=memory, show=show)


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
