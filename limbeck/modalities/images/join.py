"""Join patch filters, fitted to the images of a run, with the features of its trained network."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.types import Encoder
from limbeck.data.store.store import Store
from limbeck.features.analytic import AnalyticFeatures, analytic_features
from limbeck.features.extract import extract_matrix
from limbeck.features.images import eval_images
from limbeck.metrics.whitening import HalfWhitening
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing
from limbeck.models.eval_mode import eval_mode
from limbeck.models.joined import DIRECTIONS, JoinedFilters
from limbeck.models.patch_filters import PatchFiltersConfig

IMAGES = 5000
"""Images that the linear map is fitted to."""


def fit_join(store: Store, filters: int, how: Preprocessing) -> Callable[[Encoder], Encoder]:
    """Fit patch filters to the images of `store`; return what joins them with the features of a trained encoder.

    All but one pass of that encoder is done here, so that a run that has to end in time knows what is left.

    Args:
        store: the images.
        filters: how many.
        how: the input of the encoder.
    """
    fitted = analytic_features(store, description="patch filters", cfg=PatchFiltersConfig(filters=filters))
    alone = JoinedFilters(0, filters, (how.mean, how.std))
    set_filters(alone, fitted)
    own = _features(alone.filter_features, DIRECTIONS, store, how, torch.device("cpu"))

    def join(encoder: Encoder) -> Encoder:
        assert isinstance(encoder, Backbone), "the encoder of a run on images is what `build_encoder` built"
        joined = encoder.with_filters(filters)
        assert joined.joined is not None, "it has just been added"
        device = joined.joined.bias.device
        with eval_mode(joined):
            features = _features(encoder.model, encoder.dim, store, how, device)
        set_filters(joined.joined, fitted)
        set_components(joined.joined, torch.cat([features, own.to(device)], dim=1))
        return joined

    return join


def set_filters(joined: JoinedFilters, fitted: AnalyticFeatures) -> None:
    """Set the filters and the first of their discriminants, as many as there are."""
    joined.filters.load_state_dict(fitted.filters.state_dict())
    directions = fitted.projection[:, :DIRECTIONS]
    joined.projection[:, : directions.shape[1]] = directions.to(joined.projection.device)


def set_components(joined: JoinedFilters, appended: Float[Tensor, "N E"]) -> None:
    """Set the linear map: features of network and filters get the same mean square, and both are half-whitened.

    `appended` has the features of the network in its first columns, those of the filters in the last `DIRECTIONS`.
    """
    parts = appended.split([appended.shape[1] - DIRECTIONS, DIRECTIONS], dim=1)
    spreads = [(part - part.mean(dim=0)).square().sum(dim=1).mean().sqrt().clamp(min=1e-6) for part in parts]
    scale = torch.cat([(1 / spread).expand(part.shape[1]) for part, spread in zip(parts, spreads, strict=True)])
    mean, projection = HalfWhitening.fit(appended * scale, components=joined.dim)
    joined.weight[: projection.shape[1]] = projection.mT * scale
    joined.bias[: projection.shape[1]] = -projection.mT @ mean


def _features(
    network: Callable[[Tensor], Tensor], dim: int, store: Store, how: Preprocessing, device: torch.device
) -> Float[Tensor, "N D"]:
    """Return the features of the images that the linear map is fitted to."""
    rows = np.sort(np.random.default_rng(0).permutation(len(store))[:IMAGES])
    images = eval_images(store, how.image_size, how.mean, how.std, device)
    with torch.no_grad():
        return extract_matrix(
            lambda batch: {0: network(batch)}, images, rows, {0: dim}, device=device, show="joining patch filters"
        )[0]
