"""The smallest networks, methods and batches that still have every part."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.types import Batch, DataContext, Encoder, Features, StepInfo, TeacherOutput
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.data.store.store import Store
from limbeck.methods import HostConfig, Method, MethodConfig, method_config, method_names
from limbeck.methods.base import DistillConfig, Teacher
from limbeck.models.backbone import Backbone, BackboneConfig, build_backbone

SIZE = 16
COUNT = 24  # images of a batch: W-MSE needs more rows than it has columns
CLASSES = 10  # as digits have, on which whole runs are judged
SIZES = {
    "hidden": 12,
    "dim": 8,
    "queue": 48,
    "neighbours": 8,
    "prototypes": 6,
    "freeze_steps": 0,
    "warmup_steps": 2,  # in which two batches fill the queue
}
CLOCK = StepInfo(step=3, total_steps=10)
CONTEXT = DataContext(num_images=250, batch_size=COUNT, forward_batch_size=COUNT, num_classes=CLASSES)


def tiny_vit(depth: int = 3) -> Backbone:
    """A ViT of width 16 with two heads on 16 x 16 pixels, patch 8; its positions and CLS token are not degenerate."""
    args = {"patch_size": 8, "embed_dim": 16, "depth": depth, "num_heads": 2, "dynamic_img_size": True}
    return build_backbone(BackboneConfig(name="vit_tiny_patch16_224", image_size=SIZE, args=args))


def shrink(config: Any, sizes: dict[str, int]) -> Any:
    """A configuration in which the fields named in `sizes` have those values, host included."""
    changes: dict[str, Any] = {k: v for k, v in sizes.items() if k in {f.name for f in dataclasses.fields(config)}}
    if isinstance(getattr(config, "host", None), MethodConfig):
        changes["host"] = shrink(config.host, sizes)
    return dataclasses.replace(config, **changes)


def configs(context: DataContext = CONTEXT, **sizes: int) -> dict[str, MethodConfig]:
    """Every method with its defaults but small (`SIZES`), fitted to its batches; SDSSL over every host."""
    sizes = SIZES | sizes
    hosts = {n: method_config(n) for n in method_names() if issubclass(method_config(n), HostConfig)}
    found: dict[str, MethodConfig] = {}
    for name in method_names():
        kind: Any = method_config(name)
        if "host" in {f.name for f in dataclasses.fields(kind)}:
            found |= {f"{name}-{h}": shrink(kind(host=host()), sizes) for h, host in hosts.items()}
        else:
            found[name] = shrink(kind(), sizes)
    return {name: config.resolve(context) for name, config in found.items()}


def images(count: int = 6, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of `count` images that resemble each other."""
    first, second = views_of(count, (SIZE, SIZE), dtype, seed)
    return first, second


def views_of(count: int, sizes: Sequence[int], dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    """A view of each size, all of the same `count` images: noise that resembles the first one."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, 3, SIZE, SIZE, generator=generator, dtype=dtype)
    noisy = (first + 0.5 * torch.randn(first.shape, generator=generator, dtype=dtype) for _ in sizes[1:])
    return tuple(v[..., :s, :s].contiguous() for v, s in zip([first, *noisy], sizes, strict=True))


def batch(count: int = 6, dtype: torch.dtype = torch.float32, seed: int = 0) -> Batch:
    """Two views as a batch."""
    return Batch(images(count, dtype, seed), torch.arange(count))


def batch_for(config: MethodConfig, count: int = COUNT, dtype: torch.dtype = torch.float32) -> Batch:
    """The views that a method wants, with labels."""
    sizes = [view.augmentation.size for view in config.make_views(SIZE)]
    rows = torch.arange(count)
    return Batch(views_of(count, sizes, dtype, seed=0), rows, rows % CLASSES, rows.roll(1))


def sampling(config: MethodConfig, store: Store) -> SamplingPlan:
    """Every row of a store; where a method wants bags, with the two images as its bag whose pixels are nearest."""
    if not isinstance(config, DistillConfig) or config.bags() is None:
        return ALL_ROWS
    pixels = torch.from_numpy(store.images).flatten(1).float()
    distances = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf)
    return SamplingPlan(bags=distances.topk(2, largest=False).indices.numpy())


def build(config: MethodConfig, backbone: Backbone) -> Method:
    """The method, with a teacher if it learns from one."""
    return (
        config.build_distiller(backbone, PixelTeacher(config))
        if isinstance(config, DistillConfig)
        else config.build(backbone)
    )


class PixelTeacher(Teacher):
    """Answers with fixed mixtures of an image's pixels: a map of 4 x 4 places, and `dim` numbers of how they differ."""

    dim, map_dim = 32, 8

    def __init__(self, config: MethodConfig) -> None:
        self.seen = [view for view in config.make_views(SIZE) if view.network == "teacher"]
        generator = torch.Generator().manual_seed(1)
        self.mixture = torch.randn(3, self.map_dim, generator=generator, dtype=torch.float64)
        self.summary = torch.randn(self.map_dim * 16, self.dim, generator=generator, dtype=torch.float64)
        few = torch.randn(32, 3, generator=generator)  # directions, as features of alike images have
        self.sample = few @ torch.randn(3, self.dim, generator=generator)

    def __call__(self, batch: Batch) -> TeacherOutput:
        """The views that are marked as a teacher's are the last ones of a batch."""
        maps = [self._look(view) for view in batch.views[-len(self.seen) :]]
        first = [view.crop_of == 0 and view.image == "own" for view in self.seen]
        unlike = (places - places.mean((2, 3), keepdim=True) for places in maps)
        vectors = tuple(places.flatten(1) @ self.summary.to(places.dtype) for places in unlike)
        return TeacherOutput(vectors, maps[first.index(True)] if any(first) else None)

    def _look(self, view: Tensor) -> Tensor:
        mixture = self.mixture.to(view.dtype)
        return torch.einsum("bchw,cd->bdhw", F.adaptive_avg_pool2d(view, 4), mixture)


class FlatConfig(NamedTuple):
    """The part of an encoder's configuration that methods read."""

    name: str = "flat"


class Flat(Encoder):
    """A network over vectors in the place of a backbone, for numbers that authors computed without images."""

    def __init__(self, model: nn.Module, dim: int) -> None:
        super().__init__()
        self.cfg = FlatConfig()
        self.model, self.dim, self.taps = model, dim, (1,)
        self.tap_dims = self.map_dims = {1: dim}

    def forward(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """[B D_in] -> [B D]."""
        final = self.model(x)
        return Features(final, dict.fromkeys(taps, final), {})

    def cut(self, depth: int) -> Self:
        """Return itself: it has one depth."""
        return self
