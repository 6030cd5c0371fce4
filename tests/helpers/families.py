"""A network of every family of timm that Limbeck names, as small as it can be, with random weights."""

from pathlib import Path
from typing import Any

import torch

from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, save_encoder

HALF = (0.5, 0.5, 0.5)
SILENT = 1e-3  # largest scale of a branch that is not seen
VIT = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("vit_tiny_patch16_224", VIT),
    "DeiT": ("deit_tiny_patch16_224", VIT),
    "EVA-02": ("eva02_tiny_patch14_224", VIT),
    "ResNet": ("resnet18", {"channels": [8, 8, 12, 12], "layers": [1, 1, 1, 1]}),
    "ConvNeXt": ("convnext_atto", {"dims": [8, 8, 12, 12], "depths": [1, 1, 1, 1]}),
    "EfficientNet": ("efficientnet_b0", {}),
    "EfficientNet-Lite": ("tf_efficientnet_lite0", {}),
    "MobileNetV3": ("mobilenetv3_small_050", {}),
    "MobileNetV4": ("mobilenetv4_conv_small_035", {}),
    "RegNet": ("regnety_002", {}),
    "RepViT": ("repvit_m0_9", {"embed_dim": (8, 8, 16, 16), "depth": (1, 1, 1, 1)}),
    "FastViT": ("fastvit_t8", {"embed_dims": (8, 8, 16, 16), "layers": (1, 1, 1, 1)}),
}


def random_encoder(form: BackboneConfig, folder: Path, batches: int = 20) -> int:
    """Write a network with random weights and the BatchNorm statistics of some batches of noise; return its depth.

    Scales that begin at (nearly) 0 are 1: they would leave the branches of a ResNet or a ConvNeXt out.
    """
    torch.manual_seed(0)
    backbone, size = build_backbone(form), form.image_size or 32
    with torch.no_grad():
        for name, value in backbone.named_parameters():
            if name.endswith(("weight", "gamma")) and value.squeeze().ndim == 1 and value.abs().max() < SILENT:
                value.fill_(1.0)
        for _ in range(batches):
            backbone(torch.randn(16, 3, size, size))
    how = Preprocessing(image_size=size, store_size=size, mean=HALF, std=HALF)
    save_encoder(backbone.eval(), folder, how, {"weights": "random"})
    return backbone.taps[-1]
