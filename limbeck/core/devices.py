"""Choose the device to compute on, and whether it computes in bf16."""

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck.core.errors import UserError
from limbeck.core.text import plural

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp16", "fp32"]


DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of the drivers of NVIDIA (also under Windows) and AMD; torch finds no CUDA device without one."""


def has_cuda() -> bool:
    """Return whether torch finds a CUDA device; where there is no driver, torch is not imported to ask it."""
    if not any(map(os.path.exists, DRIVERS)):
        return False
    import torch

    return torch.cuda.is_available()


def choose_device(name: str = "auto") -> "torch.device":
    """Return the device `name` ("cpu", "cuda", "cuda:1", ...); "auto" is CUDA if there is any, otherwise the CPU.

    Raises:
        UserError: torch cannot use that device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        usable = torch.cuda.device_count() > (device.index or 0) if device.type == "cuda" else _allocates(device)
    except (RuntimeError, AssertionError, NotImplementedError):
        usable = False
    if not usable:
        raise UserError(
            f"device '{name}' cannot be used here (torch finds {torch.cuda.device_count()} CUDA devices): "
            "choose auto, cpu, cuda or mps",
            code="unusable-device",
        )
    return device


def local_device(name: str = "auto") -> "torch.device":
    """Return the device of this process among those that run on this machine (`LOCAL_RANK`), as `choose_device`."""
    import torch

    device = choose_device(name)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


def supports_bf16(kind: str) -> bool:
    """Return whether a device of this `kind` ("cpu", "cuda") computes in bf16 itself, instead of emulating it."""
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(precision: Precision, device: "torch.device") -> Literal["bf16", "fp16", "fp32"]:
    """Return the precision to train in; "auto" is bf16 if the hardware supports it, on other CUDA devices fp16."""
    if precision != "auto":
        return precision
    if supports_bf16(device.type):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def resolve_bf16(precision: Precision, device: "torch.device") -> bool:
    """Return whether to compute in bf16; "auto" means: if the hardware supports it."""
    return supports_bf16(device.type) if precision == "auto" else precision == "bf16"


def describe_machine(device: "torch.device") -> str:
    """Return a name of the hardware that the speed of kernels depends on: the GPU, or the processor and its threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{_processor()}, {capability}, {plural(torch.get_num_threads(), 'thread')}"


def _processor() -> str:
    """Return the name of the processor, which Python knows on some systems only."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        if names := [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]:
            return names[0]
    return platform.processor() or platform.machine()


def _allocates(device: "torch.device") -> bool:
    import torch

    torch.empty(0, device=device)
    return True
