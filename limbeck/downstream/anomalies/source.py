"""The unusual images of a source: among each other, or compared with images that are known to be normal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.sources.open import Source
from limbeck.data.store.identical import identities
from limbeck.data.store.store import Store
from limbeck.downstream.anomalies.config import MEMORY, Compare, OutlierConfig
from limbeck.downstream.anomalies.distances import Vectors, neighbor_distances, resolve_neighbors
from limbeck.downstream.anomalies.patches import PatchMemory, remember
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_features
from limbeck.embeddings.source import Embedded, embed_source, open_images

NORMAL_SHARE = 0.95  # of the normal images that are not unusual


@dataclass(frozen=True, kw_only=True, eq=False)
class Outliers:
    """Outlier scores of the images of a source; row i of every array is image i."""

    paths: list[str]
    """As the source has them."""
    scores: Float[NDArray[np.float32], " N"]
    """The larger, the more unusual."""
    threshold: float | None
    """Score that 95 % of the normal images do not exceed, each compared with the others; None without normal images."""
    compare: Compare
    depth: int
    normal: int
    """Images that all were compared with; 0 if these are the images themselves."""
    identical: int
    """Images that are identical to another one of those, which does not count for them."""
    k: int
    """Nearest images that a score is a mean over; 0 where patches are compared."""
    store: Store
    network: FrozenEncoder
    maps: Float[NDArray[np.float32], "N H W"] | None
    """Distance of every place of the feature map to the memory, where patches are compared."""
    memory: PatchMemory | None

    @property
    def order(self) -> NDArray[np.int64]:
        """Rows, the most unusual first."""
        return np.argsort(-self.scores, kind="stable")

    def unusual(self) -> NDArray[np.bool_] | None:
        """Return whether the score of an image is above the threshold, [N]; None without a threshold."""
        return None if self.threshold is None else self.scores > self.threshold

    def table(self) -> Iterator[dict[str, Any]]:
        """Yield path, score, rank and, with a threshold, whether it is exceeded, of every image in the order."""
        unusual = self.unusual()
        for rank, row in enumerate(self.order.tolist(), start=1):
            above = None if unusual is None else bool(unusual[row])
            yield {"path": self.paths[row], "score": float(self.scores[row]), "rank": rank, "unusual": above}

    def sentences(self) -> list[str]:
        """Describe the comparison, and how many images are unusual."""
        what = "vectors" if self.memory is None else "places of the feature map"
        others = plural(self.normal, "normal image") if self.normal else "each other"
        how = (
            f"the {self.k} nearest ones"
            if self.memory is None
            else f"{plural(len(self.memory.vectors), 'place')} in memory"
        )
        found = [f"{plural(len(self.paths), 'image')}: {what} at depth {self.depth}, compared with {others} ({how})"]
        if self.identical:
            where = "among the normal images" if self.normal else "in the source"
            found.append(
                f"{plural(self.identical, 'image')} with an identical one {where}, which does not count for it"
            )
        if self.threshold is not None:
            unusual = int((self.scores > self.threshold).sum())
            found.append(
                f"{plural(unusual, 'image')} above {self.threshold:.4g}, which {NORMAL_SHARE:.0%} of the normal images "
                "do not exceed"
            )
        return found


def find_outliers(
    source: Source | Store,
    encoder: str | PathLike[str] | FrozenEncoder,
    cfg: OutlierConfig,
    *,
    normal: Source | Store | None = None,
    depth: int | None = None,
    embed: EmbedConfig | None = None,
) -> Outliers:
    """Return the outlier score of every image of `source` by a network.

    Args:
        source: what `embed_source` takes.
        encoder: what `load_features` takes, or its result.
        cfg: what is compared.
        normal: images that are known to be normal; by default each image of `source` is compared with the others.
        depth: block or stage; by default the last one, of patches the one at two thirds of the network.
        embed: how to compute the features.

    Raises:
        UserError: as `embed_source`; there are too few images, or the network has no feature maps.
    """
    embed = embed or EmbedConfig()
    network = encoder if isinstance(encoder, FrozenEncoder) else load_features(encoder, embed.precision)
    depth = _default_depth(network, cfg.compare) if depth is None else depth
    network.check_depths([depth])
    patches = cfg.compare == "patches"
    stores = [open_images(images, network, embed) for images in (source, normal) if images is not None]
    images = identities(*stores)
    different = len(np.unique(images[-1]))
    _check_counts(different)
    k = 0 if patches else resolve_neighbors(cfg.k, different)
    found = [embed_source(store, network, depths=[depth], maps=patches, cfg=embed) for store in stores]
    scored = _by_patches(found, images, depth, cfg) if patches else _by_vectors(found, images, depth, k)
    return Outliers(
        paths=found[0].paths,
        scores=scored.scores,
        threshold=scored.threshold,
        compare=cfg.compare,
        depth=depth,
        normal=len(stores[1]) if len(stores) > 1 else 0,
        identical=_count_identical(images),
        k=k,
        store=stores[0],
        network=network,
        maps=scored.maps,
        memory=scored.memory,
    )


def _default_depth(network: FrozenEncoder, compare: Compare) -> int:
    """Return the last depth, or for patches the one at two thirds: later ones have few places and know no texture."""
    depths = sorted(network.dims)
    return depths[math.ceil(2 / 3 * len(depths)) - 1] if compare == "patches" else depths[-1]


def _check_counts(different: int) -> None:
    """Raise UserError unless there are different images to compare every one with."""
    if different < 2:
        raise UserError(
            f"{plural(different, 'image')} cannot be compared with others of its kind: give 2 or more different ones",
            code="too-few-images",
        )


def _count_identical(images: list[NDArray[np.int64]]) -> int:
    """Return the number of images that are identical to another one that they are compared with."""
    if len(images) > 1:
        return int(np.isin(images[0], images[1]).sum())
    return int((np.bincount(images[0])[images[0]] > 1).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    scores: NDArray[np.float32]
    threshold: float | None
    maps: NDArray[np.float32] | None = None
    memory: PatchMemory | None = None


def _by_vectors(found: list[Embedded], images: list[NDArray[np.int64]], depth: int, k: int) -> _Scored:
    """Return the mean cosine distances to the nearest images."""
    queries, base = (Vectors(found[place].features[depth], images[place]) for place in (0, -1))
    own = neighbor_distances(base, k, description="neighbors")
    if len(found) == 1:
        return _Scored(scores=own, threshold=None)
    scores = neighbor_distances(base, k, queries, description="neighbors among the normal images")
    return _Scored(scores=scores, threshold=_threshold(own))


def _by_patches(found: list[Embedded], images: list[NDArray[np.int64]], depth: int, cfg: OutlierConfig) -> _Scored:
    """Return the largest distances of a place to the memory, and all distances."""
    base = found[-1].maps[depth]
    memory = remember(base, images[-1], cfg.memory or MEMORY, cfg.seed)
    own = memory.distance_maps(base, images[-1], "distances")
    if len(found) == 1:
        return _Scored(scores=own.max(axis=(1, 2)), threshold=None, maps=own, memory=memory)
    maps = memory.distance_maps(found[0].maps[depth], images[0], "distances to the normal images")
    return _Scored(scores=maps.max(axis=(1, 2)), threshold=_threshold(own.max(axis=(1, 2))), maps=maps, memory=memory)


def _threshold(scores: NDArray[np.float32]) -> float:
    return float(np.quantile(scores, NORMAL_SHARE, method="higher"))
