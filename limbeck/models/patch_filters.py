"""Filters of whitened patches (Coates, Lee & Ng 2011; Coates & Ng 2012), and a network that is joined with them.

A patch of 6 x 6 pixels is normalized, q = (p - mean) / sqrt(var + 10) on the scale 0 to 255, and whitened,
w = W (q - mu) with W = V (lambda + 0.1)^(-1/2) V'. With the k-means centroids c_k of such patches its code is the
triangle activation max(0, mean_j |w - c_j| - |w - c_k|). Codes are averaged over the four quadrants of the image, the
square root is taken, and the mean of the training images is subtracted.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Barrier

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MAX_SIDE = 32
"""Images are resized to a side of `MIN_SIDE` to so many pixels."""
MEAN, STD = (0.5, 0.5, 0.5), (1 / 255, 1 / 255, 1 / 255)
"""Normalization of the input: pixels on the scale of 0 to 255, less 127.5, which no patch notices."""
QUADRANTS = 4
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


class FilterBank(nn.Module):
    """Patch filters as a network: images [B 3 H W] on the scale of `MEAN` and `STD` to features [B 4 * filters].

    A whitened patch is linear in the pixels up to the division by their deviation, so two convolutions compute w and
    the products c_k . w of every patch, and |w - c_k|^2 = |w|^2 - 2 c_k . w + |c_k|^2.
    """

    def __init__(self, cfg: PatchFiltersConfig) -> None:
        super().__init__()
        self.cfg = cfg
        width, sides = 3 * cfg.patch_size**2, (3, cfg.patch_size, cfg.patch_size)
        self.whitening = constant(width, *sides)
        self.center = constant(width, 1, 1)
        self.kernels = constant(cfg.filters, *sides)
        self.offsets = constant(cfg.filters, 1, 1)
        self.mean = constant(self.dim)

    @property
    def dim(self) -> int:
        """Width of the features."""
        return QUADRANTS * self.cfg.filters

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
        """Compute the features of images in chunks, in float32 also inside an autocast; an export has one chunk."""
        if torch.compiler.is_exporting():
            return self._features(images)
        parts = images.split(CHUNK.get(images.device.type, LARGE_CHUNK))
        threads = torch.get_num_threads() if images.device.type == "cpu" else 1
        if threads > 1 and len(parts) > 1:
            return torch.cat(list(_pool(os.getpid(), threads).map(lambda part: self._features(part.float()), parts)))
        with torch.autocast(images.device.type, enabled=False), _full_precision():
            return torch.cat([self._features(part.float()) for part in parts])

    def _features(self, images: Tensor) -> Tensor:
        codes = self.codes(images)
        sides = codes.shape[-2:]  # quadrants share the middle row and column of an odd number
        means = F.avg_pool2d(codes, [-(-side // 2) for side in sides], [side // 2 for side in sides])
        return means.flatten(1).sqrt() - self.mean

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


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads of a process that compute with one core each.

    PyTorch's own wait for each other after every operation, of which a chunk has many short ones: where something else
    needs a core as well, two of them are several times slower than one.
    """
    pool = ThreadPoolExecutor(threads, "limbeck-filters", initializer=torch.set_num_threads, initargs=(1,))
    started = Barrier(threads)
    list(pool.map(lambda _: started.wait(), range(threads)))
    torch.set_num_threads(threads)  # which the new threads have set for those that come after them
    return pool


def constant(*shape: int) -> nn.Parameter:
    """Return a parameter of zeros that is not trained."""
    return nn.Parameter(torch.zeros(shape), requires_grad=False)


def _without_mean(rows: Float[Tensor, "n P"]) -> Float[Tensor, "n P"]:
    """Return filters that subtract the mean of a patch from it before they are applied."""
    return rows - rows.mean(dim=1, keepdim=True)


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
