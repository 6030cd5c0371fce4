"""Load the network of this folder, which timm has no name for: it has a stem for small images or patch filters, or was
cut.

    from model import load
    features = load(".")(images)  # images [B 3 H W], normalized as config.json says -> features [B D]

This file needs torch, timm and safetensors; Limbeck copied it here.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Cut(nn.Module):
    """A network up to one of its stages, and a global average."""

    def __init__(self, body: Any, last: int) -> None:
        super().__init__()
        self.body, self.last = body, last

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B 3 H W] to features [B D]."""
        maps = self.body.forward_intermediates(images, indices=[self.last], stop_early=True, intermediates_only=True)
        features: Tensor = maps[-1].mean(dim=(2, 3))
        return features


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
        """Return how much nearer than on average every patch is to every filter, or 0: [B K h w]."""
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


def load(folder: str | Path) -> nn.Module:
    """Return the network of a folder with config.json and model.safetensors, in evaluation mode."""
    how = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["model_args"]
    weights = load_file(Path(folder) / "model.safetensors")
    model: Any = timm.create_model(how["arch"], **how["args"])
    if how["small_stem"]:
        name = "conv_stem" if hasattr(model, "conv_stem") else "conv1"
        width, channels, *_ = weights[f"{name}.weight"].shape
        setattr(model, name, nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False))
        if name == "conv1" and not how["stem_pool"]:
            model.maxpool = nn.Identity()
    if how["last"] is not None:  # the last stage or block that is there, as timm counts them
        model.prune_intermediate_layers([how["last"]], prune_norm=not how["vit"], prune_head=not how["vit"])
    model.load_state_dict(weights)
    network: nn.Module = model if how["last"] is None or how["vit"] else Cut(model, how["last"])
    if how["patch_filters"]:
        network = Joined(network, load_file(Path(folder) / "patch_filters.safetensors"), *how["patch_filters"])
    return network.eval()
