"""Kernels: ways to compute the same networks, which differ in speed and in rounding."""

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from limbeck.core.devices import describe_machine, resolve_precision
from limbeck.train.config import TrainConfig

logger = logging.getLogger(__name__)

Attention = Literal["fused", "plain"]
MemoryFormat = Literal["channels-last", "contiguous"]


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """Kernels by which the networks of a step are computed."""

    precision: Literal["bf16", "fp16", "fp32"]
    attention: Attention = "fused"
    memory_format: MemoryFormat = "channels-last"

    @classmethod
    def of(cls, cfg: TrainConfig, device: torch.device) -> "Kernels":
        """Return those of a run; where its settings say "auto", the usual ones."""
        return cls(
            precision=resolve_precision(cfg.precision, device),
            attention="fused" if cfg.attention == "auto" else cfg.attention,
            memory_format="channels-last" if cfg.memory_format == "auto" else cfg.memory_format,
        )

    def __str__(self) -> str:
        return f"{self.precision}, {self.attention} attention, {self.memory_format}"


def fused_attentions(network: nn.Module) -> list[nn.Module]:
    """Return the modules of timm that compute attention with torch's fused kernel."""
    return [module for module in network.modules() if getattr(module, "fused_attn", False) is True]


def set_attention(modules: list[nn.Module], attention: Attention) -> None:
    """Let modules of `fused_attentions` compute attention with the fused kernel, or as two products and a softmax."""
    for module in modules:
        module.fused_attn = attention == "fused"  # type: ignore[assignment]


def set_memory_format(network: nn.Module, memory_format: MemoryFormat) -> None:
    """Store the weights of convolutions in this order; activations follow it."""
    network.to(memory_format=torch.channels_last if memory_format == "channels-last" else torch.contiguous_format)


def warn_of_other_machine(cfg: TrainConfig, device: torch.device) -> None:
    """Log the machine on which the kernels of a run were measured, if it is another one."""
    machine = describe_machine(device)
    if cfg.measured_on not in ("", machine):
        logger.warning(
            "kernels (%s) were measured on '%s', and this is '%s': the run keeps them; --precision auto --attention "
            "auto --memory-format auto returns to the usual ones",
            Kernels.of(cfg, device),
            cfg.measured_on,
            machine,
        )
