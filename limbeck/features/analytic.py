"""Features that need no training and that augmentations change little: projected patch filters.

With the covariance S of the patch-filter features of images, and the covariance W of those of augmented views about the
mean of their image, the directions v that maximize v'Sv / v'(W + r I)v are Fisher's linear discriminants with every
image as a class of its own. They are scaled by the fourth root of their ratio, halfway to whitening.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.core.progress import progress
from limbeck.data.augment.views import View
from limbeck.data.store.store import Store
from limbeck.features.fitted import fitted_once
from limbeck.features.fitted_patch_filters import VERSION as FILTERS_VERSION
from limbeck.features.fitted_patch_filters import PatchFilters, patch_filters
from limbeck.features.images import augmented_images, eval_images
from limbeck.models.patch_filters import MEAN, STD, PatchFiltersConfig

VERSION = 1
"""Part of the identity of the features: a change of the computation is another network."""
DIM = 256  # directions
VIEWS, VIEW_IMAGES = 4, 2_000  # augmented views per image, of so many images
IMAGES = 10_000  # images whose covariance is computed
RIDGE = 0.2  # r, in mean variances of a feature
AUGMENTATION: dict[str, Any] = {
    "scale": (0.2, 1.0), "jitter": (0.4, 0.4, 0.4, 0.1), "jitter_p": 0.8, "grayscale": 0.2, "mean": MEAN, "std": STD
}  # fmt: skip
"""Augmentations that the features should be invariant to: crop, flip and colors."""
BATCH = 256


class AnalyticFeatures(nn.Module):
    """Projected patch filters as a network: images [B 3 H W] to features [B dim], with no gradient."""

    def __init__(self, filters: PatchFilters, projection: Float[Tensor, "P D"]) -> None:
        super().__init__()
        self.filters = filters
        self.projection = nn.Parameter(projection, requires_grad=False)

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.projection.shape[1]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Project the features of the filters."""
        with torch.autocast(images.device.type, enabled=False):
            return self.filters(images) @ self.projection


def analytic_features(
    store: Store, cache: str | Path | None = None, description: str = "", cfg: PatchFiltersConfig | None = None
) -> AnalyticFeatures:
    """Return the analytic features of `store`, fitted once for its content and cached from then on.

    Args:
        store: the images.
        cache: folder of the cache; None: that of the stores. Where it cannot be written the features are not cached.
        description: text of the progress bars; no bars if empty.
        cfg: how the filters are fitted.
    """
    filters = patch_filters(store, cfg, cache, f"{description}: k-means" if description else "")
    settings = [VERSION, FILTERS_VERSION, DIM, VIEWS, VIEW_IMAGES, IMAGES, RIDGE, AUGMENTATION, filters.cfg]
    return fitted_once(
        "analytic",
        [store.digest, str(store.size), *map(str, settings)],
        cache,
        lambda: {"projection": fit_projection(store, filters, description)},
        lambda tensors: AnalyticFeatures(filters, tensors["projection"]),
    )


def fit_projection(store: Store, filters: PatchFilters, description: str = "") -> Float[Tensor, "P D"]:
    """Return the projection of the filters' features, fitted to the images of `store` on the CPU."""
    rows = np.random.default_rng(0).permutation(len(store))
    total = _total_covariance(store, filters, np.sort(rows[:IMAGES]), description)
    within = _view_covariance(store, filters, np.sort(rows[:VIEW_IMAGES]), description)
    return discriminants(total, within, DIM)


def discriminants(total: Float[Tensor, "P P"], within: Float[Tensor, "P P"], dim: int) -> Float[Tensor, "P D"]:
    """Return the first `dim` discriminants as columns, in float32; those of ratio 0 are left out."""
    ridge = RIDGE * total.diagonal().mean() * torch.eye(len(total), dtype=total.dtype)
    values, vectors = torch.linalg.eigh(within + ridge)
    whitening = vectors * values.rsqrt()
    ratios, directions = torch.linalg.eigh(whitening.mT @ total @ whitening)
    chosen = ratios.argsort(descending=True)[:dim]
    chosen = chosen[ratios[chosen] > 1e-9 * ratios.max()]
    return (whitening @ directions[:, chosen] * ratios[chosen].pow(-0.25)).float()


def filter_view(size: int) -> View:
    """Return the augmentation that features should not depend on, at the size and the scale of the filters' input."""
    return View(size=size, **AUGMENTATION)


def _total_covariance(store: Store, filters: PatchFilters, rows: NDArray[np.int64], description: str) -> Tensor:
    """Return the covariance [P P] of the features of unaugmented images, in float64."""
    images = eval_images(store, filters.preprocessing.image_size, MEAN, STD, torch.device("cpu"))
    products, total = torch.zeros(filters.dim, filters.dim, dtype=torch.float64), torch.zeros(filters.dim)
    for part in _parts(rows, description):
        features = filters(images(part))
        products += (features.mT @ features).double()
        total += features.sum(dim=0)
    mean = total.double() / len(rows)
    return products / len(rows) - torch.outer(mean, mean)


def _view_covariance(store: Store, filters: PatchFilters, rows: NDArray[np.int64], description: str) -> Tensor:
    """Return the covariance [P P] of the features of augmented views about their mean in each image, in float64."""
    view = filter_view(filters.preprocessing.image_size)
    draws = [augmented_images(store, view, number, torch.device("cpu"), seed=0) for number in range(VIEWS)]
    products = torch.zeros(filters.dim, filters.dim, dtype=torch.float64)
    for part in _parts(rows, description):
        features = torch.stack([filters(draw(part)) for draw in draws])
        differences = (features - features.mean(dim=0)).flatten(0, 1)
        products += (differences.mT @ differences).double()
    return products / (len(rows) * (VIEWS - 1))


def _parts(rows: NDArray[np.int64], description: str) -> Iterable[NDArray[np.int64]]:
    parts = np.split(rows, range(BATCH, len(rows), BATCH))
    return progress(parts, description, unit="images", size=len)
