"""The unusual images of a source: among each other, or compared with images that are known to be normal."""

import math
from dataclasses import dataclass
from os import PathLike

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from limbeck.anomalies.config import Compare, OutlierConfig
from limbeck.anomalies.distances import check_neighbors, neighbor_distances
from limbeck.anomalies.patches import PatchMemory, remember
from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_encoder
from limbeck.embeddings.source import Embedded, embed_source, open_images

NORMAL_SHARE = 0.95  # of the normal images that are not unusual


@dataclass(frozen=True, kw_only=True, eq=False)
class Outliers:
    """How unusual the images of a source are; row i of every array is image i."""

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

    def sentences(self) -> list[str]:
        """Return what was compared with what, and how many images are unusual."""
        what = "places of the feature map" if self.compare == "patches" else "vectors"
        others = plural(self.normal, "normal image") if self.normal else "each other"
        found = [f"{plural(len(self.paths), 'image')}: {what} at depth {self.depth}, compared with {others}"]
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
    """Return how unusual every image of `source` is to a network.

    Args:
        source: what `embed_source` takes.
        encoder: what `load_encoder` takes, or its result.
        cfg: what is compared.
        normal: images that are known to be normal; by default each image of `source` is compared with the others.
        depth: block or stage; by default the last one, of patches the one at two thirds of the network.
        embed: how to compute the features.

    Raises:
        UserError: as `embed_source`; there are too few images, or the network has no feature maps.
    """
    embed = embed or EmbedConfig()
    network = encoder if isinstance(encoder, FrozenEncoder) else load_encoder(encoder, embed.precision)
    depth = _default_depth(network, cfg.compare) if depth is None else depth
    network.check_depths([depth])
    patches = cfg.compare == "patches"
    stores = [open_images(images, network, embed) for images in (source, normal) if images is not None]
    _check_counts(len(stores[-1]), len(stores[0]), cfg)
    found = [embed_source(store, network, depths=[depth], maps=patches, cfg=embed) for store in stores]
    scored = _by_patches(found, depth, cfg) if patches else _by_vectors(found, depth, cfg)
    return Outliers(
        paths=found[0].paths,
        scores=scored.scores,
        threshold=scored.threshold,
        compare=cfg.compare,
        depth=depth,
        normal=len(stores[1]) if len(stores) > 1 else 0,
        store=stores[0],
        network=network,
        maps=scored.maps,
        memory=scored.memory,
    )


def _default_depth(network: FrozenEncoder, compare: Compare) -> int:
    """Return the last depth, or for patches the one at two thirds: later ones have few places and know no texture."""
    depths = sorted(network.dims)
    return depths[math.ceil(2 / 3 * len(depths)) - 1] if compare == "patches" else depths[-1]


def _check_counts(base: int, images: int, cfg: OutlierConfig) -> None:
    """Raise UserError unless there are images to compare every image, and every normal one, with."""
    if cfg.compare == "images":
        check_neighbors(cfg.k, base - 1)
    elif base < 2:
        raise UserError(
            f"{plural(base, 'image')} cannot be compared with others of its kind: give 2 or more",
            code="too-few-images",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    scores: NDArray[np.float32]
    threshold: float | None
    maps: NDArray[np.float32] | None = None
    memory: PatchMemory | None = None


def _by_vectors(found: list[Embedded], depth: int, cfg: OutlierConfig) -> _Scored:
    """Return the mean cosine distances to the nearest images."""
    images, base = found[0].features[depth], found[-1].features[depth]
    own = neighbor_distances(base, cfg.k, description="neighbors")
    if len(found) == 1:
        return _Scored(scores=own, threshold=None)
    return _Scored(
        scores=neighbor_distances(base, cfg.k, images, description="neighbors among the normal images"),
        threshold=_threshold(own),
    )


def _by_patches(found: list[Embedded], depth: int, cfg: OutlierConfig) -> _Scored:
    """Return the largest distances of a place to the memory, and all distances."""
    images, base = found[0].maps[depth], found[-1].maps[depth]
    memory = remember(base, cfg.memory, cfg.seed)
    own = memory.distance_maps(base, own=True, description="distances")
    if len(found) == 1:
        return _Scored(scores=own.max(axis=(1, 2)), threshold=None, maps=own, memory=memory)
    maps = memory.distance_maps(images, own=False, description="distances to the normal images")
    return _Scored(scores=maps.max(axis=(1, 2)), threshold=_threshold(own.max(axis=(1, 2))), maps=maps, memory=memory)


def _threshold(scores: NDArray[np.float32]) -> float:
    return float(np.quantile(scores, NORMAL_SHARE, method="higher"))
