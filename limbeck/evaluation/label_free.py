"""Measures of features that need no labels, on one block of them: the same images and views for every network."""

from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.devices import resolve_bf16
from limbeck.core.types import Encoder
from limbeck.data.augment.views import preset
from limbeck.data.store.store import Store
from limbeck.features.analytic import analytic_features
from limbeck.features.extract import extract, extract_matrix
from limbeck.features.images import ImageFn, augmented_images, eval_images
from limbeck.metrics.fidelity import nearest_images
from limbeck.metrics.representation import effective_rank
from limbeck.metrics.spectrum import lidar, spectral_decay
from limbeck.metrics.views import view_retrieval
from limbeck.models.encoder_io import Preprocessing

IMAGES, VIEWS = 2_000, 8
MEASURES = ("effective_rank", "spectral_decay", "lidar", "view_retrieval", "filter_agreement")
"""More is better in all of them: of the decay, the negative distance from 1."""


class Scene(NamedTuple):
    """The images that networks are compared on, and what does not depend on a network."""

    store: Store
    rows: NDArray[np.int64]
    filter_neighbors: Int[Tensor, "N k"]
    """The nearest images by patch filters."""
    device: torch.device
    seed: int

    @classmethod
    def of(cls, store: Store, images: int, device: torch.device, seed: int, description: str = "") -> Self:
        """Draw the images, and find their neighbors by patch filters, which are fitted to the whole store."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(store))[:images])
        filters = analytic_features(store, description=description)
        how = filters.filters.preprocessing
        images_of = eval_images(store, how.image_size, how.mean, how.std, torch.device("cpu"))
        found = extract_matrix(
            lambda batch: {0: filters(batch)},
            images_of,
            rows,
            {0: filters.dim},
            device=torch.device("cpu"),
            show=description,
        )
        return cls(store, rows, nearest_images(found[0].to(device)), device, seed)


def measure(encoder: Encoder, how: Preprocessing, scene: Scene, show: str = "") -> dict[str, Tensor]:
    """Return every one of `MEASURES`: a number for each image where there is one, else one number for all of them."""
    plain = _features(encoder, eval_images(scene.store, how.image_size, how.mean, how.std, scene.device), scene, show)
    view = replace(preset("byol", how.image_size)[1], mean=how.mean, std=how.std)
    draws = [
        _features(encoder, augmented_images(scene.store, view, number, scene.device, scene.seed), scene, show)
        for number in range(VIEWS)
    ]
    views = torch.stack(draws, dim=1)
    return {
        "effective_rank": effective_rank(plain),
        "spectral_decay": -(spectral_decay(plain) - 1).abs(),
        "lidar": lidar(views),
        "view_retrieval": view_retrieval(views),
        "filter_agreement": shared_neighbors(nearest_images(plain), scene.filter_neighbors),
    }


def shared_neighbors(a: Int[Tensor, "N k"], b: Int[Tensor, "N k"]) -> Float[Tensor, " N"]:
    """Return for every image the share of its nearest images that both networks have in common."""
    return (a[:, :, None] == b[:, None, :]).any(dim=2).double().mean(dim=1)


def _features(encoder: Encoder, images: ImageFn, scene: Scene, show: str) -> Float[Tensor, "N D"]:
    last, bf16 = encoder.taps[-1], resolve_bf16("auto", scene.device)
    return extract(encoder, images, scene.rows, taps=(last,), device=scene.device, bf16=bf16, show=show)[last]
