"""A linear layer at the end of an export: features as another depth has them, or in the order of their importance."""

import os
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.data.store.store import Store
from limbeck.embeddings.encoders import load_encoder
from limbeck.exports.examples import CPU, fitting_rows, split_examples
from limbeck.exports.export_source import ExportSource, load_source
from limbeck.exports.proof import features_of
from limbeck.exports.result import Rotation, Target
from limbeck.features.extract import extract_matrix
from limbeck.features.images import eval_images
from limbeck.metrics.fidelity import NUM_NEIGHBORS

STRENGTHS = np.logspace(-2, 5, 15)  # of the ridge, on features of unit variance; the best is found by leaving one out
SMALLEST = 1e-6  # eigenvalue that is divided by, as a share of the largest
FEWEST_NUMBERS = 8  # of rotated features that are compared, and then twice, four times ... as many


class Projection(NamedTuple):
    """A layer for the end of a network, and what its outputs are compared with."""

    layer: nn.Linear
    expected: Tensor  # features [N D] of the images of the proof
    target: Target | None  # of aligned features

    def recalls(self, found: Float[Tensor, "N D"]) -> dict[int, float]:
        """Return the recall@10 of the outputs for the images of the proof, by the number of outputs that are used.

        Aligned outputs are queries among the features that they are aligned with; rotated ones are compared with each
        other, as the features were before.
        """
        if self.target:
            return {found.shape[1]: cross_recall(found, self.expected, self.expected)}
        counts = _doubled(FEWEST_NUMBERS, found.shape[1])
        return {count: cross_recall(found[:, :count], found[:, :count], self.expected) for count in counts}


def cross_recall(queries: Float[Tensor, "N D"], bank: Float[Tensor, "N D"], truth: Float[Tensor, "N E"]) -> float:
    """Return the share of each image's 10 nearest others by `truth` that are among its 10 nearest rows of `bank`.

    All distances are cosines. Row i of the three is image i, which is no neighbor of itself.
    """
    found, expected = _nearest(queries, bank), _nearest(truth, truth)
    return (found[:, :, None] == expected[:, None, :]).any(dim=2).double().mean().item()


def _nearest(queries: Tensor, bank: Tensor) -> Tensor:
    cosines = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    return cosines.fill_diagonal_(-torch.inf).topk(NUM_NEIGHBORS, dim=1).indices


def _doubled(first: int, last: int) -> list[int]:
    """Return `first`, twice, four times ... as many below `last`, and `last`."""
    counts = [first * 2**power for power in range(last.bit_length()) if first * 2**power < last]
    return [*counts, last]


def fit_projection(source: ExportSource, store: Store, align: bool, rotate: Rotation) -> Projection:
    """Fit the layer to images of a store that are not those of the proof.

    Args:
        source: the network.
        store: unlabeled images.
        align: map to the features of the whole network, of all depths and at its own image size, by ridge regression.
        rotate: map to principal axes, the largest first; see `principal_axes`.

    Raises:
        UserError: it is a classifier, there is nothing to align, or there are too few images.
    """
    if source.classifier:
        raise UserError(
            f"'{source.run}' is a classifier, whose outputs are logits: align or rotate its encoder",
            code="projection-of-a-classifier",
        )
    if align:
        return _aligned(source, store)
    weight = principal_axes(_features(source, store), half_whiten=rotate == "half-whitening")
    return Projection(_layer(weight, torch.zeros(len(weight))), _of_proof(source, store), None)


def principal_axes(features: Float[Tensor, "N D"], *, half_whiten: bool) -> Float[Tensor, "D D"]:
    """Return the eigenvectors of the second moments as rows, those of the largest eigenvalues first.

    They are axes about the origin and not about the mean, so that all of them together change no cosine, and the first
    k are the best k for inner products (Eckart and Young 1936). With `half_whiten` each is divided by the fourth root
    of its eigenvalue, which counts as at least a millionth of the largest.
    """
    x = features.double()
    values, vectors = torch.linalg.eigh(x.mT @ x / len(x))
    values, axes = values.flip(0), vectors.flip(1).mT
    return axes / values.clamp_min(SMALLEST * values[0]).pow(0.25)[:, None] if half_whiten else axes


def _aligned(source: ExportSource, store: Store) -> Projection:
    whole = load_source(source.run, None, fold=False)
    if (source.backbone.taps, source.preprocessing) == (whole.backbone.taps, whole.preprocessing):
        raise UserError(
            f"--align maps a part of a network to the whole, and this is the whole of '{source.run}': give --depth or "
            "--image-size, or leave it out",
            code="nothing-to-align",
        )
    regression = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS))
    regression.fit(_features(source, store).numpy(), F.normalize(_features(whole, store), dim=1).numpy())
    scaler, ridge = regression[0], regression[1]
    weight = ridge.coef_ / scaler.scale_
    bias = ridge.intercept_ - weight @ scaler.mean_
    target = Target(digest=load_encoder(os.fspath(source.run)).digest, depth=len(whole.backbone.taps))
    return Projection(_layer(torch.from_numpy(weight), torch.from_numpy(bias)), _of_proof(whole, store), target)


def _layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return layer.requires_grad_(False)


def _features(source: ExportSource, store: Store) -> Tensor:
    """Return the features [N D] of the images that a layer is fitted to."""
    how, model = source.preprocessing, source.backbone.network
    images = eval_images(store, how.image_size, how.mean, how.std, CPU, how.interpolation)  # type: ignore[arg-type]
    with torch.inference_mode():
        return extract_matrix(
            lambda batch: {0: model(batch)},
            images,
            fitting_rows(store),
            {0: source.backbone.dim},
            device=CPU,
            batch_size=64,
            show=f"features at depth {len(source.backbone.taps)}",
        )[0]


def _of_proof(source: ExportSource, store: Store) -> Tensor:
    """Return the features [N D] of the images of the proof."""
    return features_of(source.backbone.network, split_examples(store, source.preprocessing, fold=False).proof)
