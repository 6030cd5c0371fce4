"""Evaluate a keypoint detector by annotated keypoints, next to what needs no training.

The lines of reference are the mean pose, the same detector untrained, and ridge regression from the pixels themselves,
which learns from the annotations what a detector has to do without.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.types import Dataset
from limbeck.data.annotated import AnnotatedPair
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData, as_store
from limbeck.evaluation.evaluator import evaluate_models
from limbeck.evaluation.metrics.keypoints import protocols, with_error
from limbeck.evaluation.models import Bank, EvaluatedModel
from limbeck.evaluation.references import MEAN_POSE, SUPERVISED, UNTRAINED_NETWORK
from limbeck.evaluation.results import EvaluationResult, ModelScores
from limbeck.keypoints.config import DEPTH
from limbeck.keypoints.network import Detector
from limbeck.keypoints.places import find_keypoints, whole_images
from limbeck.metrics.keypoints import Split, ridge_distances

PIXELS = 16  # side of the image whose pixels are regressed from


class KeypointModel(EvaluatedModel):
    """A detector, whose keypoints need all of its blocks."""

    offers = frozenset({"keypoints"})
    depths = (DEPTH,)

    def __init__(self, name: str, detector: Detector) -> None:
        self.name, self.detector, self.image_size = name, detector, detector.cfg.image_size

    def features(self, data: EvalData, store: Dataset) -> Bank:
        """Find the keypoints of all images."""
        show = data.description(f"{self.name}: {'test' if store is data.test else 'training'} images")
        rows, images = np.arange(len(store)), as_store(store)
        found = find_keypoints(self.detector, images, rows, data.device, batch_size=data.cfg.batch_size, show=show)
        return {DEPTH: found.flatten(1)}

    def networks(self) -> dict[int, nn.Module]:
        """Return the detector."""
        return {DEPTH: self.detector.eval()}


def evaluate_keypoints(
    detector: Detector, untrained: Detector, train: Store, test: Store, annotated: AnnotatedPair, cfg: EvaluateConfig
) -> EvaluationResult:
    """Regress the annotated keypoints of `test` by what is fitted on `train`.

    Raises:
        UserError: fewer than two test images, an unknown device, or no more training images than a regression has
            coefficients.
    """
    coefficients = 2 * detector.cfg.keypoints + 1
    if len(train) <= coefficients:
        raise UserError(
            f"too few training images are annotated ({len(train)}): a regression from {detector.cfg.keypoints} "
            f"keypoints has {coefficients} coefficients for each coordinate; annotate more images than that",
            code="too-few-images",
        )
    train, test = (replace(store, labels=np.full(len(store), -1), label_names=[]) for store in (train, test))
    data = replace(EvalData.of(train, test, cfg), keypoints=annotated)
    models = KeypointModel("network", detector), KeypointModel(UNTRAINED_NETWORK, untrained)
    return evaluate_models(*models, data, measure_references)


def measure_references(data: EvalData) -> tuple[ModelScores, ...]:
    """Return the errors of the mean pose and of regression from pixels, unless they are switched off."""
    pair = data.keypoints
    assert pair is not None, "they are those of keypoints"
    if not data.cfg.references:
        return ()
    constant, ones = (torch.ones(len(points), 1, dtype=torch.float64) for points in (pair.train, pair.test))
    pixels = (_pixels(as_store(store)) for store in (data.train, data.test))
    truths = map(torch.from_numpy, (pair.train, pair.test))
    fit, test = (Split(found, truth) for found, truth in zip(pixels, truths, strict=True))
    supervised = with_error("keypoint_error", ridge_distances(fit, test).nanmean(dim=1))
    return (
        ModelScores(name=MEAN_POSE, image_size=0, values=protocols(constant, ones, pair)),
        ModelScores(name=SUPERVISED, image_size=PIXELS, values=supervised),
    )


def _pixels(store: Store) -> Float[Tensor, "N D"]:
    images, _ = whole_images(store, PIXELS, torch.device("cpu"))
    return images(np.arange(len(store))).flatten(1).double()
