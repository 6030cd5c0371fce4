"""What the machine can do."""

from typing import Literal

import torch


def supports_bf16(kind: str) -> bool:
    """Whether a device of this `kind` ("cpu", "cuda") computes in bf16 itself, instead of emulating it."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_bf16(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> bool:
    """Whether to run in bf16; "auto" is where the hardware has it."""
    return supports_bf16(device.type) if precision == "auto" else precision == "bf16"
