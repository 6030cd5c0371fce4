"""The encoder of series: a residual network of dilated convolutions, as in TS2Vec.

Yue et al., *TS2Vec: Towards Universal Representation of Time Series*, AAAI 2022; yuezhihan/ts2vec b0088e1. There is no
dropout here, so that two processes compute what one does, and steps that are missing are left out of the maximum.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.types import BlockOutput, Features, TokenEncoder
from limbeck.series.config import KERNEL, SeriesConfig
from limbeck.series.fixed_kernels import FixedKernels


class DilatedBlock(nn.Module):
    """Two convolutions behind a GELU each, around a residual connection."""

    def __init__(self, width: int, out: int, dilation: int, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, out, KERNEL, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(out, out, KERNEL, padding=dilation, dilation=dilation)
        self.projector = nn.Conv1d(width, out, 1) if project else nn.Identity()

    def forward(self, z: Float[Tensor, "B h T"]) -> tuple[Float[Tensor, "B D T"], Float[Tensor, "B D T"]]:
        """Return the branch before the residual sum, and the sum."""
        branch = self.conv2(F.gelu(self.conv1(F.gelu(z))))
        return branch, branch + self.projector(z)


class DilatedEncoder(TokenEncoder):
    """Map series [B T C] of any length, with NaN where values are missing, to the maximum over steps of every block.

    The features of fixed kernels follow, if there are some, scaled to the mean square of those of the block.
    """

    cfg: SeriesConfig
    mean: Tensor
    std: Tensor

    def __init__(self, cfg: SeriesConfig) -> None:
        super().__init__()
        assert cfg.channels is not None, "`fit_to_series` takes the channels of the data"
        widths = cfg.widths()
        self.token_dim = cfg.hidden
        self.register_buffer("mean", torch.tensor(cfg.mean))
        self.register_buffer("std", torch.tensor(cfg.std))
        self.input_map = nn.Linear(cfg.channels, cfg.hidden)
        self.blocks = nn.ModuleList(
            DilatedBlock(width, out, 2**i, project=width != out or i + 1 == cfg.depth)
            for i, (width, out) in enumerate(zip([cfg.hidden, *widths], widths, strict=False))
        )
        self.kernels = FixedKernels(cfg) if cfg.kernel_features else None
        self._describe(cfg)

    def _describe(self, cfg: SeriesConfig) -> None:
        widths, joined = cfg.widths(), self.kernels.dim if self.kernels else 0
        self.cfg, self.dim, self.taps = cfg, widths[-1] + joined, tuple(range(1, len(widths) + 1))
        self.map_dims = dict(zip(self.taps, widths, strict=True))
        self.tap_dims = {tap: width + joined for tap, width in self.map_dims.items()}

    def present(self, x: Float[Tensor, "B T C"]) -> Bool[Tensor, "B T"]:
        """Return which steps have no missing value."""
        return ~x.isnan().any(dim=2)

    def tokens(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T h"]:
        """Return the linear map of every step, 0 where it is missing."""
        return self.input_map(self.normalized(x)) * self.present(x)[:, :, None]

    def normalized(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Return the values less their mean, by their deviation, 0 where they are missing."""
        return ((x - self.mean) / self.std).nan_to_num()

    def encode_tokens(self, tokens: Float[Tensor, "B T h"]) -> tuple[BlockOutput, ...]:
        """Run the blocks."""
        z, found = tokens.transpose(1, 2), []
        for block in self.blocks:
            branch, z = block(z)
            found.append(BlockOutput(branch.transpose(1, 2), z.transpose(1, 2)))
        return tuple(found)

    def forward(self, x: Float[Tensor, "B T C"], taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """Return the features of series; feature maps are [B D T]."""
        outputs = dict(zip(self.taps, (block.output for block in self.encode_tokens(self.tokens(x))), strict=True))
        missing = ~self.present(x)[:, :, None]
        pooled = {
            tap: outputs[tap].masked_fill(missing, -torch.inf).amax(dim=1) for tap in sorted({*taps, self.taps[-1]})
        }
        if self.kernels:
            shares = self.kernels(self.normalized(x).mT, self.present(x))
            pooled = {tap: torch.cat([z, self.kernels.scales[tap - 1] * shares], 1) for tap, z in pooled.items()}
        maps = {tap: outputs[tap].transpose(1, 2) for tap in taps} if feature_maps else {}
        return Features(pooled[self.taps[-1]], {tap: pooled[tap] for tap in taps}, maps)

    def check_channels(self, channels: int) -> None:
        """Raise UserError for series of other channels than those of the network."""
        if channels != self.cfg.channels:
            raise UserError(
                f"the series have {channels} channels and the network {self.cfg.channels}: give series of the channels "
                "that it was trained on",
                code="channels-differ",
            )

    def with_kernels(self, features: int, kernels: FixedKernels) -> Self:
        """Return a copy with fitted kernels, which have `features` in their configuration."""
        joined = copy.deepcopy(self)
        joined.kernels = copy.deepcopy(kernels).to(self.mean.device)
        joined._describe(replace(self.cfg, kernel_features=features))
        return joined

    def without_kernels(self) -> Self:
        """Return a copy of the blocks alone."""
        alone = copy.deepcopy(self)
        alone.kernels = None
        alone._describe(replace(self.cfg, kernel_features=0))
        return alone

    def cut(self, depth: int) -> Self:
        """Return a copy of the blocks 1..`depth`."""
        shorter = copy.deepcopy(self)
        shorter.blocks = shorter.blocks[:depth]
        shorter._describe(replace(self.cfg, cut=depth))
        return shorter
