"""Features that need no training: k-means filters of whitened patches (Coates, Lee & Ng 2011; Coates & Ng 2012).

A patch of 6 x 6 pixels is normalized, q = (p - mean) / sqrt(var + 10) on the scale 0 to 255, and whitened,
w = W (q - mu) with W = V (lambda + 0.1)^(-1/2) V'. With the k-means centroids c_k of such patches its code is the
triangle activation max(0, mean_j |w - c_j| - |w - c_k|). Codes are averaged over the four quadrants of the image, the
square root is taken, and the mean of the training images is subtracted.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.core.progress import progress
from limbeck.data.store.store import Store
from limbeck.features.fitted import fitted_once
from limbeck.features.images import ImageFn, eval_images
from limbeck.models.encoder_io import Preprocessing

VERSION = 1
"""Part of the name of a cached file: a change of the computation makes new ones."""
MIN_SIDE, MAX_SIDE = 8, 32
"""Images are resized to a side of at least 8 and at most 32 pixels."""
MEAN, STD = (0.5, 0.5, 0.5), (1 / 255, 1 / 255, 1 / 255)
"""Normalization of the input: pixels on the scale of 0 to 255, less 127.5, which no patch notices."""
QUADRANTS = 4
MAX_IMAGES = 10_000  # images that patches are drawn from
MEAN_IMAGES = 1024  # images that the mean is computed on: it is then off by 1/32 of a standard deviation
BATCH = 256
CHUNK = {"cpu": 2}  # images per convolution: 2.3 MB of codes, which stay in the second-level cache
LARGE_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class PatchFiltersConfig:
    """How patch filters are fitted."""

    filters: int = 400
    """k-means centroids; the features are four times as many."""
    patch_size: int = 6
    """Side of a patch, pixels."""
    contrast: float = 10.0
    """Added to the variance of a patch before its root is taken, on the scale 0 to 255."""
    whitening: float = 0.1
    """Added to the eigenvalues of the covariance before their root is taken."""
    patches: int = 100_000
    """Patches that whitening and centroids are computed from."""
    iterations: int = 15
    """Iterations of k-means (Lloyd), from patches drawn with the seed."""
    seed: int = 0


class PatchFilters(nn.Module):
    """Patch filters as a network: images [B 3 H W], normalized by `preprocessing`, to features [B 4 * filters].

    Fitted by `fit`. A whitened patch is linear in the pixels up to the division by their deviation, so two convolutions
    compute w and the products c_k . w of every patch, and |w - c_k|^2 = |w|^2 - 2 c_k . w + |c_k|^2.
    """

    def __init__(self, cfg: PatchFiltersConfig, image_size: int, store_size: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.preprocessing = Preprocessing(image_size=image_size, store_size=store_size, mean=MEAN, std=STD)
        width, sides = 3 * cfg.patch_size**2, (3, cfg.patch_size, cfg.patch_size)
        self.whitening = _constant(width, *sides)
        self.center = _constant(width, 1, 1)
        self.kernels = _constant(cfg.filters, *sides)
        self.offsets = _constant(cfg.filters, 1, 1)
        self.mean = _constant(self.dim)

    @property
    def dim(self) -> int:
        """Width of the features."""
        return QUADRANTS * self.cfg.filters

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

    def set_filters(
        self, center: Float[Tensor, " P"], whitening: Float[Tensor, "P P"], centroids: Float[Tensor, "K P"]
    ) -> None:
        """Set the filters of whitened patches (q - center) @ whitening, with P pixel values each."""
        w, c, mu = whitening.double(), centroids.double(), center.double()
        products = c @ w  # c . w(q) = products @ (q - mu)
        self.whitening.copy_(_without_mean(w).view(self.whitening.shape))
        self.center.copy_((w @ mu)[:, None, None])
        self.kernels.copy_(-2 * _without_mean(products).view(self.kernels.shape))
        self.offsets.copy_((c.square().sum(dim=1) + 2 * products @ mu)[:, None, None])

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Compute the features of images in chunks, in float32 also inside an autocast."""
        chunk = CHUNK.get(images.device.type, LARGE_CHUNK)
        with torch.autocast(images.device.type, enabled=False), _full_precision():
            parts = [self._features(part.float()) for part in images.split(chunk)]
        return torch.cat(parts)

    def _features(self, images: Tensor) -> Tensor:
        codes = self.codes(images)
        return F.adaptive_avg_pool2d(codes, 2).flatten(1).sqrt() - self.mean

    def codes(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K h w"]:
        """Return the triangle activations of every patch."""
        deviation = self._deviation(images)
        whitened = F.conv2d(images, self.whitening) / deviation - self.center
        squared = torch.addcmul(self.offsets, F.conv2d(images, self.kernels), deviation.reciprocal())
        squared += whitened.square().sum(dim=1, keepdim=True)
        distances = squared.clamp_(min=0).sqrt_()
        mean = distances.mean(dim=1, keepdim=True)
        return distances.neg_().add_(mean).clamp_(min=0)

    def _deviation(self, images: Tensor) -> Tensor:
        """Return sqrt(var + contrast) of every patch, [B 1 h w], with the unbiased variance."""
        size = self.cfg.patch_size
        count = 3 * size**2
        centered = images - images.mean(dim=(1, 2, 3), keepdim=True)  # the difference of squares then keeps its digits
        mean = F.avg_pool2d(centered.mean(dim=1, keepdim=True), size, stride=1)
        square = F.avg_pool2d(centered.square().mean(dim=1, keepdim=True), size, stride=1)
        variance = (square - mean.square()).clamp_(min=0) * (count / (count - 1))
        return (variance + self.cfg.contrast).sqrt()


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


def _constant(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape), requires_grad=False)


def _without_mean(rows: Float[Tensor, "n P"]) -> Float[Tensor, "n P"]:
    """Return filters that subtract the mean of a patch from it before they are applied."""
    return rows - rows.mean(dim=1, keepdim=True)


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


@contextmanager
def _full_precision() -> Iterator[None]:
    """Convolve float32 in float32 on a GPU that would use TF32."""
    backend = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set by torch
    before = backend.fp32_precision
    backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        backend.fp32_precision = before
