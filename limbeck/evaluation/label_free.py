"""Measures of features that need no labels, on one block of them: the same images and views for every network."""

from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.augment.views import View, preset
from limbeck.data.store.store import Store
from limbeck.embeddings.encoders import FrozenEncoder
from limbeck.features.analytic import analytic_features
from limbeck.features.extract import extract_matrix
from limbeck.features.images import ImageFn, augmented_images, eval_images
from limbeck.metrics.fidelity import nearest_images
from limbeck.metrics.representation import effective_rank
from limbeck.metrics.spectrum import lidar, spectral_decay
from limbeck.metrics.views import view_retrieval

IMAGES, VIEWS = 2_000, 8
MEASURES = ("effective_rank", "spectral_decay", "lidar", "view_retrieval", "filter_agreement")
"""More is better in all of them, as their authors have it: of the decay, the negative distance from 1."""


class Block(NamedTuple):
    """The images that networks are compared on, and what does not depend on a network."""

    store: Store
    rows: NDArray[np.int64]
    filter_neighbors: Int[Tensor, "N k"]
    """The nearest images by patch filters."""
    device: torch.device
    seed: int

    @classmethod
    def of(cls, store: Store, images: int, device: torch.device, seed: int = 0, description: str = "") -> Self:
        """Draw so many images, and find their neighbors by patch filters, which are fitted to the whole store.

        `description` is the text of the progress bars; no bars if empty.
        """
        rows = np.sort(np.random.default_rng(seed).permutation(len(store))[:images])
        filters, cpu = analytic_features(store, description=description), torch.device("cpu")
        how = filters.filters.preprocessing
        inputs, dims = eval_images(store, how.image_size, how.mean, how.std, cpu), {0: filters.dim}
        found = extract_matrix(lambda batch: {0: filters(batch)}, inputs, rows, dims, device=cpu, show=description)
        return cls(store, rows, nearest_images(found[0].to(device)), device, seed)


def measure(encoder: FrozenEncoder, block: Block, description: str = "") -> dict[str, Tensor]:
    """Return every one of `MEASURES`: [N], a number for each image, where there is one, else one number for all."""
    encoder.to(block.device)
    plain = _features(encoder, encoder.images(block.store, block.device), block, description)
    view = replace(preset("byol", encoder.image_size)[1], mean=encoder.mean, std=encoder.std)
    views = torch.stack([_view(encoder, view, number, block, description) for number in range(VIEWS)], dim=1)
    return {
        "effective_rank": effective_rank(plain),
        "spectral_decay": -(spectral_decay(plain) - 1).abs(),
        "lidar": lidar(views),
        "view_retrieval": view_retrieval(views),
        "filter_agreement": shared_neighbors(nearest_images(plain), block.filter_neighbors),
    }


def shared_neighbors(a: Int[Tensor, "N k"], b: Int[Tensor, "N k"]) -> Float[Tensor, " N"]:
    """Return for every image the share of its nearest images that both networks have in common."""
    return (a[:, :, None] == b[:, None, :]).any(dim=2).double().mean(dim=1)


def _view(encoder: FrozenEncoder, view: View, number: int, block: Block, description: str) -> Tensor:
    """Return the features [N D] of one draw of a view of every image."""
    return _features(encoder, augmented_images(block.store, view, number, block.device, block.seed), block, description)


def _features(encoder: FrozenEncoder, images: ImageFn, block: Block, description: str) -> Float[Tensor, "N D"]:
    last = encoder.last
    found = extract_matrix(
        lambda batch: {last: encoder.features(batch, (last,)).final},
        images,
        block.rows,
        {last: encoder.dims[last]},
        device=block.device,
        show=description,
    )
    return found[last]
