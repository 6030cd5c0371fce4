"""Folders of the smallest teachers, in every format that is read."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, save_encoder

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
VIT: dict[str, Any] = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
NARROW = {"channels": [8, 12, 16, 24]}


def images(count: int = 3, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def disturb(network: nn.Module) -> Any:
    """Statistics, scales and positions that are not those of a fresh network; in eval mode."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1) if parameter.ndim == 1 else None
    network.train()(images(8))
    return network.eval()


def timm_vit(classes: int = 5) -> Any:
    return disturb(timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=classes, **VIT))


def timm_resnet(classes: int = 5) -> Any:
    return disturb(timm.create_model("resnet18", num_classes=classes, **NARROW))


def save_timm(model: Any, folder: Path, **preprocessing: Any) -> Path:
    """As timm itself saves; `preprocessing` are timm's names."""
    timm.models.save_for_hf(model, str(folder), safe_serialization=True, data_config=preprocessing or None)
    return folder


def limbeck_run(folder: Path, note: dict[str, Any] | None = None, name: str = "vit_tiny_patch16_224") -> Backbone:
    """Return a run's encoder in `folder`, and the network."""
    args = VIT if name.startswith("vit") else NARROW
    backbone = build_backbone(BackboneConfig(name=name, image_size=32, args=args, small_stem=False))
    disturb(backbone)
    preprocessing = Preprocessing(image_size=32, store_size=40, mean=MEAN, std=STD)
    save_encoder(backbone, folder / "encoder", preprocessing, note or {})
    return backbone
