"""A place on a plane for every vector: t-SNE where there is a library for it, or else principal components."""

from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.packages import require
from limbeck.core.progress import Bar, progress, progress_bar
from limbeck.downstream.explorer.config import Method
from limbeck.neighbors.search import top_k

Array = NDArray[np.float32]

COMPONENTS = 50  # principal components that t-SNE gets, as van der Maaten and Hinton (2008) do
PERPLEXITY = 30.0
SLOW = 5000  # images up to which scikit-learn's t-SNE takes its place
FEWEST = 12  # images of a t-SNE
ITERATIONS = 750  # of openTSNE's defaults, 250 of them with early exaggeration
LAID_OUT = 100_000  # images of a t-SNE; where there are more, the others follow their nearest ones among these
NEAREST = 5  # of these
BLOCK = 512  # images that are compared with all of these at once: 200 MB


class Layout(NamedTuple):
    """Positions on the map."""

    positions: Array
    """[N 2] in [0, 1]: one of the two axes spans all of it, the other as much as in the layout."""
    name: str
    """Algorithm that computed them, in words."""


def lay_out(unit: Array, method: Method = "auto", seed: int = 0) -> Layout:
    """Return a map of unit vectors [N D], a function of the vectors and the seed.

    "auto" is the t-SNE of openTSNE (van der Maaten and Hinton 2008, with the interpolation of Linderman et al. 2019) if
    it is installed, else that of scikit-learn for up to 5,000 images, else the first two principal components.

    Raises:
        UserError: t-SNE is requested and neither library can compute it.
    """
    return lay_out_components(principal_components(unit, COMPONENTS, seed), method, seed)


def lay_out_components(reduced: Array, method: Method = "auto", seed: int = 0) -> Layout:
    """Return the same map from the principal components [N d] of the vectors.

    Of more than 100,000 images t-SNE lays out so many, drawn with the seed, and each other one is put where its nearest
    ones among these are.
    """
    chosen = _choose(method, len(reduced))
    if chosen == "pca":
        return Layout(_fit(reduced[:, :2]), "the first two principal components")
    part = np.sort(np.random.default_rng(seed).permutation(len(reduced))[:LAID_OUT])
    perplexity = min(PERPLEXITY, (len(part) - 1) / 3)
    found = (_opentsne if chosen == "openTSNE" else _sklearn)(reduced[part], perplexity, seed)
    name = f"t-SNE of {chosen}, perplexity {perplexity:.0f}, seed {seed}"
    if len(part) < len(reduced):
        found = _follow(reduced, part, found)
        name += f", of {len(part):,} images; each other one at the median of its {NEAREST} nearest ones"
    return Layout(_fit(found), name)


def _follow(reduced: Array, part: NDArray[np.int64], positions: Array) -> Array:
    """Return the positions of all images: where those of `part` are, and the median of the nearest ones of these."""
    base = torch.from_numpy(reduced[part])
    half, found = base.square().sum(dim=1) / 2, np.empty((len(reduced), 2), np.float32)
    others = np.setdiff1d(np.arange(len(reduced)), part)
    blocks = [others[start : start + BLOCK] for start in range(0, len(others), BLOCK)]
    for rows in progress(blocks, "map: the other images", unit="images", size=len):
        closest = top_k([(0, torch.from_numpy(reduced[rows]) @ base.mT - half)], NEAREST).positions
        found[rows] = np.median(positions[closest.numpy()], axis=1)
    found[part] = positions
    return found


def principal_components(vectors: Array, count: int, seed: int) -> Array:
    """Return the first `count` principal components of the rows, or as many as there are."""
    from sklearn.decomposition import PCA

    count = min(count, *vectors.shape)
    found: Array = PCA(count, svd_solver="randomized", random_state=seed).fit_transform(vectors).astype(np.float32)
    return np.pad(found, ((0, 0), (0, max(0, 2 - count))))


def _choose(method: Method, images: int) -> str:
    if method == "pca" or images < FEWEST:
        return "pca"
    if find_spec("openTSNE"):
        return "openTSNE"
    if images <= SLOW:
        return "scikit-learn"
    if method == "tsne":
        require("explore", "openTSNE", purpose=f"t-SNE of {images:,} images")
        raise UserError("openTSNE cannot be imported", code="missing-package")
    return "pca"


def _opentsne(x: Array, perplexity: float, seed: int) -> Array:
    """Compute in one thread, in which the result follows from the seed."""
    from openTSNE import TSNE

    with progress_bar(ITERATIONS, "map: t-SNE", unit="iterations") as bar:
        tsne = TSNE(
            perplexity=perplexity,
            random_state=seed,
            n_jobs=1,
            callbacks=_advance(bar),
            callbacks_every_iters=10,
        )
        return np.asarray(tsne.fit(x), np.float32)


def _advance(bar: Bar) -> Any:
    def call(iteration: int, error: float, embedding: Any) -> None:
        bar.advance(10)

    return call


def _sklearn(x: Array, perplexity: float, seed: int) -> Array:
    from sklearn.manifold import TSNE

    found: Array = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
    return found


def _fit(positions: Array) -> Array:
    """Scale to [0, 1] in proportion, centered."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    span = max(float((high - low).max()), 1e-12)
    return ((positions - (low + high) / 2) / span + 0.5).clip(0, 1).astype(np.float32)
