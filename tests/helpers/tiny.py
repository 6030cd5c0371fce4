"""The smallest networks, methods and batches that still have every part."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from limbeck.core.config import to_json
from limbeck.core.files import atomic_write
from limbeck.core.types import Batch, DataContext, Dataset, Encoder, Features, StepInfo, TeacherOutput
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.data.store.store import Store
from limbeck.keypoints.config import DetectorConfig
from limbeck.keypoints.network import Detector
from limbeck.methods import HostConfig, Method, MethodConfig, method_config, method_names
from limbeck.methods.base import Teacher
from limbeck.methods.config.base import DistillConfig
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.series.loader import SeriesLoader
from limbeck.train.loading import LoaderFactory
from tests.helpers.tiny_series import series_batch, series_views, tiny_encoder

SIZE = 16
COUNT = 24  # images of a batch: W-MSE needs more rows than it has columns
CLASSES = 10  # as in the digits of whole runs
SIZES = {"hidden": 12, "dim": 8, "queue_size": 48}  # of the common options; `small_size` has a rule for all others
STEP = StepInfo(step=3, total_steps=10)
CONTEXT = DataContext(num_images=250, batch_size=COUNT, forward_batch_size=COUNT, num_classes=CLASSES)


def tiny_vit(depth: int = 3) -> Backbone:
    """Build a ViT of width 16 with two heads on 16 x 16 pixels, patch 8."""
    args = {"patch_size": 8, "embed_dim": 16, "depth": depth, "num_heads": 2, "dynamic_img_size": True}
    return build_backbone(BackboneConfig(name="vit_tiny_patch16_224", image_size=SIZE, args=args))


def on_series(config: MethodConfig) -> bool:
    """Return whether a method trains on series alone."""
    return config.only_on is not None and config.only_on[0] == "series"


def on_keypoints(config: MethodConfig) -> bool:
    """Return whether a method trains networks for keypoints alone."""
    return config.only_on is not None and config.only_on[0] == "keypoints"


def encoder_for(config: MethodConfig) -> Encoder:
    """Build a small encoder of the data that a method trains on."""
    if on_keypoints(config):
        return Detector(DetectorConfig(keypoints=4, image_size=SIZE, width=4))
    return tiny_encoder() if on_series(config) else tiny_vit()


def views_for(config: MethodConfig) -> tuple[Any, ...]:
    """Return the views of a method, of images of the tiny networks or of series."""
    return series_views(config) if on_series(config) else config.make_views(SIZE)


def loader_for(config: MethodConfig) -> LoaderFactory:
    """Return what makes the batches of the data that a method trains on."""
    return SeriesLoader if on_series(config) else Loader


def small_size(name: str, value: object) -> object:
    """Return a value for an option that suits tiny networks and few images: no large count, no initial phase."""
    if value is None and name.endswith("_steps"):
        return 0
    if name == "num_views" and isinstance(value, int):
        return min(value, 4)
    return 8 if isinstance(value, int) and value > 64 else value


@cache
def detector_folder() -> str:
    """Return a folder with a detector like that of `encoder_for`, which teaches; processes share one, and leave it."""
    cfg = DetectorConfig(keypoints=4, image_size=SIZE, width=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        weights = save(Detector(cfg).state_dict())
    folder = Path(tempfile.gettempdir()) / f"limbeck-detector-{os.getuid()}-{sha256(weights).hexdigest()[:8]}"
    folder.mkdir(exist_ok=True)
    about = {"limbeck": {"modality": "keypoints", "encoder": to_json(cfg)}}
    for name, content in (("model.safetensors", weights), ("config.json", json.dumps(about).encode())):
        with atomic_write(folder / name) as unfinished:
            unfinished.write_bytes(content)
    return str(folder)


def paired(config: MethodConfig, store: Store) -> Store:
    """Return a store with its negatives as companion, for a method that needs one."""
    if not config.needs_companion:
        return store
    return dataclasses.replace(store, companion=Store.from_arrays(255 - np.asarray(store.images)))


def shrink(config: Any, sizes: Mapping[str, int] = SIZES) -> Any:
    """Return a configuration with the options in `sizes` set, and all others small; its host likewise."""
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if isinstance(value, MethodConfig):
            changes[f.name] = shrink(value, sizes)
        else:
            changes[f.name] = sizes.get(f.name, small_size(f.name, value))
    if config.needs_companion:
        changes["teacher"] = detector_folder()
    return dataclasses.replace(config, **changes)


def configs(context: DataContext = CONTEXT, **sizes: int) -> dict[str, MethodConfig]:
    """Return every method with its defaults, but small, resolved for its batches; SDSSL over every host."""
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


def has_band(name: str) -> bool:
    """Return whether a configuration learns in tests/conformance/test_bands.py: methods of images, SDSSL over BYOL."""
    return name == "sdssl-byol" or (name in method_names() and method_config(name).only_on is None)


def images(count: int = 6, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two similar views of `count` images."""
    first, second = views_of(count, (SIZE, SIZE), dtype, seed)
    return first, second


def views_of(count: int, sizes: Sequence[int], dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    """Return a view of each size, all of the same `count` images: the first one with noise."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, 3, SIZE, SIZE, generator=generator, dtype=dtype)
    noisy = (first + 0.5 * torch.randn(first.shape, generator=generator, dtype=dtype) for _ in sizes[1:])
    return tuple(v[..., :s, :s].contiguous() for v, s in zip([first, *noisy], sizes, strict=True))


def batch(count: int = 6, dtype: torch.dtype = torch.float32, seed: int = 0) -> Batch:
    """Return two views as a batch."""
    return Batch(images(count, dtype, seed), torch.arange(count))


def batch_for(config: MethodConfig, count: int = COUNT, dtype: torch.dtype = torch.float32) -> Batch:
    """Return a batch with the views of a method, with labels and partners."""
    if on_series(config):
        return series_batch(config, count, dtype)
    specs, rows = config.make_views(SIZE), torch.arange(count)
    views = views_of(count, [view.augmentation.size for view in specs], dtype, seed=0)
    masks = tuple(torch.from_numpy(view.mask.draw(0, rows.numpy(), 0, 0)) for view in specs if view.mask)
    return Batch(views, rows, rows % CLASSES, rows.roll(1), masks=masks)


def part(whole: Batch, rows: slice | Tensor) -> Batch:
    """Return some rows of a batch, or all of them in another order."""
    views, masks = (tuple(tensor[rows] for tensor in tensors) for tensors in (whole.views, whole.masks))
    labels, partners = (x if x is None else x[rows] for x in (whole.labels, whole.partner_indices))
    return Batch(views, whole.indices[rows], labels, partners, masks=masks)


def sampling(config: MethodConfig, store: Dataset) -> SamplingPlan:
    """Plan every row of a store; for a method with bags, the bag of an image is the two nearest ones in pixels."""
    if not isinstance(config, DistillConfig) or config.bag_spec() is None:
        return ALL_ROWS
    assert isinstance(store, Store), "bags are of images"
    pixels = torch.from_numpy(store.images).flatten(1).float()
    distances = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf)
    return SamplingPlan(bags=distances.topk(2, largest=False).indices.numpy())


def build(config: MethodConfig, backbone: Encoder) -> Method:
    """Build the method, with a teacher for a distiller."""
    return (
        config.build_distiller(backbone, PixelTeacher(config))
        if isinstance(config, DistillConfig)
        else config.build(backbone)
    )


class PixelTeacher(Teacher):
    """Fixed mixtures of an image's pixels: a feature map of 4 x 4 positions, and `dim` numbers of their contrast."""

    dim, map_dim = 32, 8

    def __init__(self, config: MethodConfig) -> None:
        self.views = [view for view in config.make_views(SIZE) if view.network == "teacher"]
        generator = torch.Generator().manual_seed(1)
        self.mixture = torch.randn(3, self.map_dim, generator=generator, dtype=torch.float64)
        self.summary = torch.randn(self.map_dim * 16, self.dim, generator=generator, dtype=torch.float64)
        few = torch.randn(32, 3, generator=generator)  # few directions, as features of similar images have
        self.sample = few @ torch.randn(3, self.dim, generator=generator)

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Return the output for the teacher's views, which are the last ones of a batch."""
        maps = [self._map(view) for view in batch.views[-len(self.views) :]]
        first = [view.crop_of == 0 and view.image == "own" for view in self.views]
        contrasts = (square - square.mean((2, 3), keepdim=True) for square in maps)
        vectors = tuple(square.flatten(1) @ self.summary.to(square.dtype) for square in contrasts)
        return TeacherOutput(vectors, maps[first.index(True)] if any(first) else None)

    def _map(self, view: Tensor) -> Tensor:
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
        """Map vectors [B D_in] to features [B D]."""
        final = self.model(x)
        return Features(final, dict.fromkeys(taps, final), {})

    def cut(self, depth: int) -> Self:
        """Return itself: it has one depth."""
        return self
