"""Patch filters, fitted to the images of a store: features that need no training (`models.patch_filters`)."""

import math
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.data.store.store import Store
from limbeck.features.fitted import fitted_once
from limbeck.features.images import ImageFn, eval_images
from limbeck.models.config import MIN_SIDE
from limbeck.models.encoder_io import Preprocessing
from limbeck.models.patch_filters import MAX_SIDE, MEAN, STD, FilterBank, PatchFiltersConfig

VERSION = 1
"""Part of the name of a cached file: a change of the computation makes new ones."""
MAX_IMAGES = 10_000  # images that patches are drawn from
MEAN_IMAGES = 1024  # images that the mean is computed on: it is then off by 1/32 of a standard deviation
BATCH = 256


class PatchFilters(FilterBank):
    """Patch filters with the preprocessing of their input; fitted by `fit`."""

    def __init__(self, cfg: PatchFiltersConfig, image_size: int, store_size: int) -> None:
        super().__init__(cfg)
        self.preprocessing = Preprocessing(image_size=image_size, store_size=store_size, mean=MEAN, std=STD)

    @classmethod
    def fit(cls, store: Store, cfg: PatchFiltersConfig | None = None, description: str = "") -> Self:
        """Return filters fitted to the images of `store` on the CPU; the result follows from the store and `cfg`.

        `description` is the text of a progress bar; no bar if empty.
        """
        cfg, size = cfg or PatchFiltersConfig(), input_size(store.size)
        network = cls(cfg, size, store.size)
        images = eval_images(store, size, MEAN, STD, torch.device("cpu"))
        generator = np.random.default_rng(cfg.seed)
        rows = np.sort(generator.permutation(len(store))[:MAX_IMAGES])
        patches = _normalize(_draw_patches(images, rows, cfg, generator), cfg.contrast)
        center, whitening = zca(patches, cfg.whitening)
        whitened = (patches - center) @ whitening
        start = torch.from_numpy(generator.choice(len(whitened), cfg.filters, replace=len(whitened) < cfg.filters))
        centroids = lloyd(whitened, whitened[start], cfg.iterations, description)
        network.set_filters(center, whitening, centroids)
        some = np.sort(generator.permutation(len(store))[:MEAN_IMAGES])
        total = sum(
            network(images(part)).double().sum(dim=0) for part in np.split(some, range(BATCH, len(some), BATCH))
        )
        network.mean.copy_(total / len(some))
        return network


def patch_filters(
    store: Store, cfg: PatchFiltersConfig | None = None, cache: str | Path | None = None, description: str = ""
) -> PatchFilters:
    """Return the patch filters of `store`, fitted once for its content and these settings and cached from then on.

    Args:
        store: the images.
        cfg: the settings.
        cache: folder of the cache; None: that of the stores. Where it cannot be written the filters are not cached.
        description: text of a progress bar; no bar if empty.
    """
    cfg = cfg or PatchFiltersConfig()

    def restore(tensors: dict[str, Tensor]) -> PatchFilters:
        network = PatchFilters(cfg, input_size(store.size), store.size)
        network.load_state_dict(tensors)
        return network

    identity = [str(VERSION), store.digest, str(store.size), repr(cfg)]
    return fitted_once(
        "patch-filters", identity, cache, lambda: PatchFilters.fit(store, cfg, description).state_dict(), restore
    )


def input_size(store_size: int) -> int:
    """Return the side in pixels of the images that the filters see."""
    return min(max(store_size, MIN_SIDE), MAX_SIDE)


def zca(patches: Float[Tensor, "n P"], epsilon: float) -> tuple[Float[Tensor, " P"], Float[Tensor, "P P"]]:
    """Return the mean of the patches and the symmetric matrix that whitens their differences from it."""
    center = patches.double().mean(dim=0)
    centered = patches.double() - center
    values, vectors = torch.linalg.eigh(centered.mT @ centered / max(1, len(patches) - 1))
    whitening = vectors * (values.clamp(min=0) + epsilon).rsqrt() @ vectors.mT
    return center.float(), whitening.float()


def lloyd(
    points: Float[Tensor, "n P"], centroids: Float[Tensor, "K P"], iterations: int, description: str = ""
) -> Float[Tensor, "K P"]:
    """Return the centroids after some iterations of k-means; one without points stays where it is."""
    for _ in progress(range(iterations), description):
        offset = 0.5 * centroids.square().sum(dim=1)
        nearest = torch.cat([(block @ centroids.mT - offset).argmax(dim=1) for block in points.split(8192)])
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=len(centroids))[:, None]
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids


def _normalize(patches: Float[Tensor, "n P"], contrast: float) -> Float[Tensor, "n P"]:
    variance = patches.var(dim=1, keepdim=True)
    return (patches - patches.mean(dim=1, keepdim=True)) / (variance + contrast).sqrt()


def _draw_patches(
    images: ImageFn, rows: NDArray[np.int64], cfg: PatchFiltersConfig, generator: np.random.Generator
) -> Tensor:
    """Return about `cfg.patches` patches [n P] from the images at `rows`, as many from each."""
    found = []
    for part in np.split(rows, range(BATCH, len(rows), BATCH)):
        places = F.unfold(images(part), cfg.patch_size).mT  # [B places P]
        count = min(math.ceil(cfg.patches / len(rows)), places.shape[1])
        order = generator.random(places.shape[:2]).argsort(axis=1)[:, :count]
        found.append(places[torch.arange(len(part))[:, None], torch.from_numpy(order)].flatten(0, 1))
    return torch.cat(found)
