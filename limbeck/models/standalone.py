"""Load the network of this folder, which stock timm cannot build: it is not timm's, or was changed: a stem for small
images, patch filters, a cut.

    from model import load
    features = load(".")(images)  # images [B 3 H W], normalized as config.json says -> features [B D]

This file needs torch, timm and safetensors; Limbeck copied it here.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
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


def load(folder: str | Path) -> nn.Module:
    """Return the network of a folder with config.json and model.safetensors, in evaluation mode."""
    how = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["model_args"]
    weights = load_file(Path(folder) / "model.safetensors")
    if how["arch"] == "plain_cnn":
        _module("plain_cnn")  # timm knows it from then on
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
        filters = load_file(Path(folder) / "patch_filters.safetensors")
        network = _module("standalone_filters").Joined(network, filters, *how["patch_filters"])
    return network.eval()


def _module(name: str) -> Any:
    """Return the module `name` of this folder."""
    return import_module(f".{name}" if __package__ else name, __package__)
