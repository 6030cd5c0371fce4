"""What the machine can do."""

import torch


def native_bf16(kind: str) -> bool:
    """Whether a device of this `kind` ("cpu", "cuda") computes in bf16 itself, instead of emulating it."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
