"""The smallest networks, methods and batches that still have every part."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from limbeck.backbones import Backbone, BackboneConfig, build_backbone
from limbeck.contracts import Batch
from limbeck.methods import HostConfig, MethodConfig, method_config, method_names

SIZE = 16


def tiny_vit(depth: int = 3) -> Backbone:
    """A ViT of width 16 with two heads on 16 x 16 pixels, patch 8; its positions and CLS token are not degenerate."""
    args = {"patch_size": 8, "embed_dim": 16, "depth": depth, "num_heads": 2}
    return build_backbone(BackboneConfig(name="vit_tiny_patch16_224", img_size=SIZE, args=args))


def shrink(config: Any, sizes: dict[str, int]) -> Any:
    """A configuration in which the fields named in `sizes` have those values, host included."""
    changes: dict[str, Any] = {k: v for k, v in sizes.items() if k in {f.name for f in dataclasses.fields(config)}}
    if isinstance(getattr(config, "host", None), MethodConfig):
        changes["host"] = shrink(config.host, sizes)
    return dataclasses.replace(config, **changes)


def configs(**sizes: int) -> dict[str, MethodConfig]:
    """Every method with its defaults but narrow heads (`hidden`, `dim`); a method over a host, over every host."""
    sizes = {"hidden": 12, "dim": 8} | sizes
    hosts = {n: method_config(n) for n in method_names() if issubclass(method_config(n), HostConfig)}
    found: dict[str, MethodConfig] = {}
    for name in method_names():
        kind: Any = method_config(name)
        if "host" in {f.name for f in dataclasses.fields(kind)}:
            found |= {f"{name}-{h}": shrink(kind(host=host()), sizes) for h, host in hosts.items()}
        else:
            found[name] = shrink(kind(), sizes)
    return found


def images(count: int = 6, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of `count` images that resemble each other."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, 3, SIZE, SIZE, generator=generator, dtype=dtype)
    return first, first + 0.5 * torch.randn(first.shape, generator=generator, dtype=dtype)


def batch(count: int = 6, dtype: torch.dtype = torch.float32, seed: int = 0) -> Batch:
    """Those two views as a batch."""
    return Batch(images(count, dtype, seed), torch.arange(count))
