"""Patch filters beside the network of this folder; model.py uses them. Limbeck copied this file here."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Joined(nn.Module):
    """A network, its features joined with those of patch filters: triangle activations of whitened patches."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor], mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.model = model
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "_"), value)
        self.register_buffer("scale", 255 * torch.tensor(std).view(3, 1, 1))
        self.register_buffer("shift", 255 * torch.tensor(mean).view(3, 1, 1) - 127.5)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B 3 H W] to features [B D]."""
        w: Any = self
        pixels = images * w.scale + w.shift
        pixels = F.avg_pool2d(pixels, max(1, pixels.shape[-1] // 32))
        codes = self.codes(pixels)
        means = F.avg_pool2d(codes, [-(-side // 2) for side in codes.shape[-2:]], [s // 2 for s in codes.shape[-2:]])
        filters = (means.flatten(1).sqrt() - w.filters_mean) @ w.projection
        return F.linear(torch.cat([self.model(images), filters], dim=1), w.weight, w.bias)

    def codes(self, pixels: Tensor) -> Tensor:
        """Return by how much each patch is nearer to each filter than on average, or 0: [B K h w]."""
        w: Any = self
        size = w.filters_kernels.shape[-1]
        count = 3 * size**2
        centered = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
        mean = F.avg_pool2d(centered.mean(dim=1, keepdim=True), size, stride=1)
        square = F.avg_pool2d(centered.square().mean(dim=1, keepdim=True), size, stride=1)
        deviation = ((square - mean.square()).clamp(min=0) * (count / (count - 1)) + 10).sqrt()
        white = F.conv2d(pixels, w.filters_whitening) / deviation - w.filters_center
        squared = F.conv2d(pixels, w.filters_kernels) / deviation + w.filters_offsets
        distances = (squared + white.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
        return (distances.mean(dim=1, keepdim=True) - distances).clamp(min=0)
