"""Join patch filters, fitted to the images of a run, with the features of its trained network."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
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
from limbeck.models.solved_head import SolvedHead
from limbeck.teachers.setup import ImageTargets

IMAGES = 5000
"""Images that the linear map is fitted to."""
RIDGE = 0.01
"""In mean variances of a feature: of the regression to the vectors of a teacher."""


def fit_join(
    store: Store, filters: int, how: Preprocessing, targets: Callable[[], ImageTargets | None]
) -> Callable[[Encoder], Encoder]:
    """Fit patch filters to the images of `store`; return what joins them with the features of a trained encoder.

    All but one pass of that encoder is done here, so that a run that has to end in time knows what is left.

    Args:
        store: the images.
        filters: how many.
        how: the input of the encoder.
        targets: gives the vectors that the encoder was trained to predict, if it was; asked when it is joined.
    """
    fitted = analytic_features(store, description="patch filters", cfg=PatchFiltersConfig(filters=filters))
    alone = JoinedFilters(0, filters, (how.mean, how.std))
    set_filters(alone, fitted)
    rows = np.sort(np.random.default_rng(0).permutation(len(store))[:IMAGES])
    own = _features(alone.filter_features, DIRECTIONS, store, how, rows, torch.device("cpu"))

    def join(encoder: Encoder) -> Encoder:
        assert isinstance(encoder, Backbone), "the encoder of a run on images is what `build_encoder` built"
        joined = encoder.with_filters(filters)
        assert joined.joined is not None, "it has just been added"
        device = joined.joined.bias.device
        with eval_mode(joined):
            features = _features(encoder.model, encoder.dim, store, how, rows, device)
        set_filters(joined.joined, fitted)
        appended, known = torch.cat([features, own.to(device)], dim=1), targets()
        if known is None or known.vectors[:1].shape[1] < joined.dim:
            set_components(joined.joined, appended)
        else:
            seen = np.isin(rows, known.rows)  # the others are held out, to compare student and teacher
            vectors = torch.from_numpy(known.vectors[rows[seen]]).float().to(device)
            set_components(joined.joined, appended[torch.from_numpy(seen).to(device)], vectors)
        return joined

    return join


def set_filters(joined: JoinedFilters, fitted: AnalyticFeatures) -> None:
    """Set the filters and the first of their discriminants, as many as there are."""
    joined.filters.load_state_dict(fitted.filters.state_dict())
    directions = fitted.projection[:, :DIRECTIONS]
    joined.projection[:, : directions.shape[1]] = directions.to(joined.projection.device)


def set_components(
    joined: JoinedFilters, appended: Float[Tensor, "N E"], targets: Float[Tensor, "N T"] | None = None
) -> None:
    """Set the linear map: features of network and filters get the same mean square, and both are half-whitened.

    With `targets`, it is their prediction by ridge regression that is half-whitened: which images are similar is then
    the teacher's say, as far as network and filters know it. `appended` has the features of the network in its first
    columns, those of the filters in the last `DIRECTIONS`.
    """
    parts = appended.split([appended.shape[1] - DIRECTIONS, DIRECTIONS], dim=1)
    spreads = [(part - part.mean(dim=0)).square().sum(dim=1).mean().sqrt().clamp(min=1e-6) for part in parts]
    scale = torch.cat([(1 / spread).expand(part.shape[1]) for part, spread in zip(parts, spreads, strict=True)])
    weight, bias = torch.diag(scale), torch.zeros_like(joined.bias)
    if targets is not None:
        prediction = _prediction(appended * scale, targets)
        weight, bias = scale[:, None] * prediction.weight, prediction.bias
    mean, projection = HalfWhitening.fit(appended @ weight + bias, components=joined.dim)
    joined.weight[: projection.shape[1]] = (weight @ projection).mT
    joined.bias[: projection.shape[1]] = (bias - mean) @ projection


def _prediction(features: Float[Tensor, "N E"], targets: Float[Tensor, "N T"]) -> SolvedHead:
    """Return the ridge regression of targets on features."""
    head = SolvedHead(features.shape[1], targets.shape[1], decay=0, ridge=RIDGE).to(features.device)
    head.update(features, targets)
    head.solve()
    return head


def _features(
    network: Callable[[Tensor], Tensor],
    dim: int,
    store: Store,
    how: Preprocessing,
    rows: NDArray[np.int64],
    device: torch.device,
) -> Float[Tensor, "N D"]:
    """Return the features of the images that the linear map is fitted to."""
    images = eval_images(store, how.image_size, how.mean, how.std, device)
    with torch.no_grad():
        return extract_matrix(
            lambda batch: {0: network(batch)}, images, rows, {0: dim}, device=device, show="joining patch filters"
        )[0]
