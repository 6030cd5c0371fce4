"""Regression of annotated keypoints from found ones: what keypoints without names are worth.

A linear map is fitted on one split and measured on another. Besides our own protocol there are the four of AutoLink's
code (xingzhehe/AutoLink 3fbde11, `datasets/{h36m,deepfashion,celeba_wild,taichi}.py`). A found keypoint is in [0, 1]
along both sides of the image, an annotated one too, but for those of Taichi's and DeepFashion's in pixels of 255.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PIXELS = 255
"""Side of the image in DeepFashion's and Taichi's protocols."""
NEAR = 6  # pixels: what DeepFashion's protocol counts as found
FEW_MIRRORED = 10  # images: no further round of mirroring
OUTLIER = 3  # standard deviations
FOLDS = 5
PENALTIES = tuple(10.0**power for power in range(-5, 3))
"""Of ridge regression, times the mean square of the features."""


class Split(NamedTuple):
    """Found keypoints, or any features, and the annotated keypoints of the same images."""

    found: Float[Tensor, "N D"]
    truth: Float[Tensor, "N P 2"]
    """NaN where a keypoint is not marked."""


def least_squares(split: Split, *, bias: bool) -> Float[Tensor, "E P 2"]:
    """Return the coefficients of every annotated coordinate, fitted where it is marked; E is D, plus 1 with a bias."""
    features, targets = _inputs(split.found, bias), split.truth.flatten(1)
    found = features.new_zeros(features.shape[1], targets.shape[1])
    for columns, rows in _by_rows(targets):
        found[:, columns] = torch.linalg.lstsq(features[rows], targets[rows][:, columns], driver="gelsd").solution
    return found.unflatten(1, split.truth.shape[1:])


def predict(found: Float[Tensor, "M D"], coefficients: Float[Tensor, "E P 2"]) -> Float[Tensor, "M P 2"]:
    """Return the annotated keypoints that follow from found ones."""
    inputs = _inputs(found, bias=len(coefficients) > found.shape[1])
    return torch.einsum("md,dpc->mpc", inputs, coefficients)


def distances(fit: Split, test: Split) -> Float[Tensor, "M P"]:
    """Return the distances of test images' keypoints by our own protocol, with bias; NaN where one is not marked.

    They are in units of the side of the image.
    """
    return _distances(predict(test.found, least_squares(fit, bias=True)), test.truth)


def ridge_distances(fit: Split, test: Split) -> Float[Tensor, "M P"]:
    """Return the same for ridge regression of many features, of which `FOLDS` runs of rows choose the penalty."""
    targets = fit.truth.flatten(1)
    coefficients = fit.found.new_zeros(fit.found.shape[1] + 1, targets.shape[1])
    for columns, rows in _by_rows(targets):
        coefficients[:, columns] = _ridge(fit.found[rows], targets[rows][:, columns])
    return _distances(predict(test.found, coefficients.unflatten(1, fit.truth.shape[1:])), test.truth)


def mirrored_distances(
    fit: Split, test: Split, pairs: Sequence[tuple[int, int]]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " M"]]:
    """Return the mean distances per image of Human3.6M's protocol, of the fitted images and of the test images.

    There is no bias. While more than ten images of a split are nearer to their mirrored truth, their truth is mirrored:
    an oracle, since test images are mirrored, too. Outliers of the fit are dropped and it is repeated.

    Args:
        fit, test: the splits, with every keypoint marked.
        pairs: keypoints that a mirror exchanges, in their order: the later of two pairs with a common one counts.
    """
    other = list(range(fit.truth.shape[1]))
    for first, second in pairs:
        other[first], other[second] = second, first
    truth = fit.truth
    while True:
        found = predict(fit.found, least_squares(Split(fit.found, truth), bias=False))
        error, truth, done = _mirror(found, truth, other)
        if done:
            break
    inliers = error < error.mean() + OUTLIER * error.std()
    coefficients = least_squares(Split(fit.found[inliers], truth[inliers]), bias=False)
    found, measured, done = predict(test.found, coefficients), test.truth, False
    while not done:
        errors, measured, done = _mirror(found, measured, other)
    return _distances(predict(fit.found[inliers], coefficients), truth[inliers]).mean(dim=1), errors


def near(fit: Split, test: Split) -> Bool[Tensor, "M P"]:
    """Return which keypoints DeepFashion's protocol finds, within 6 pixels of 255; no bias, every keypoint marked."""
    return _distances(predict(test.found, least_squares(fit, bias=False)), test.truth) < NEAR


def eye_distances(fit: Split, test: Split, eyes: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Return CelebA's mean distance per image over the distance of its eyes; no bias, every keypoint marked."""
    return _distances(predict(test.found, least_squares(fit, bias=False)), test.truth).mean(dim=1) / eyes


def summed_errors(fit: Split, test: Split) -> Float[Tensor, " M"]:
    """Return Taichi's error by image: the sum over coordinates of the mean absolute error is their mean.

    A coordinate that is marked in a share s of the images counts 1 / s times in each of them. With bias.
    """
    errors = (predict(test.found, least_squares(fit, bias=True)) - test.truth).abs().flatten(1)
    marked = ~errors.isnan()
    return (errors.nan_to_num() / marked.double().mean(dim=0).clamp(min=1 / len(errors))).sum(dim=1)


def _mirror(
    found: Float[Tensor, "N P 2"], truth: Float[Tensor, "N P 2"], other: Sequence[int]
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N P 2"], bool]:
    """Return the mean distances to the truth, a truth that is mirrored where that is nearer, and whether few were."""
    turned = truth[:, list(other)]
    error, mirrored = (_distances(found, points).mean(dim=1) for points in (truth, turned))
    nearer = error > mirrored
    if int(nearer.sum()) <= FEW_MIRRORED:
        return error, truth, True
    return error, torch.where(nearer[:, None, None], turned, truth), False


def _distances(found: Float[Tensor, "N P 2"], truth: Float[Tensor, "N P 2"]) -> Float[Tensor, "N P"]:
    return (found - truth).norm(dim=2)


def _inputs(found: Float[Tensor, "N D"], bias: bool) -> Float[Tensor, "N E"]:
    return torch.cat([found, found.new_ones(len(found), 1)], dim=1) if bias else found


def _by_rows(targets: Float[Tensor, "N T"]) -> list[tuple[list[int], Bool[Tensor, " N"]]]:
    """Return the columns that are known in the same rows, with these rows."""
    known = ~targets.isnan()
    groups: dict[bytes, list[int]] = {}
    for column in range(targets.shape[1]):
        groups.setdefault(known[:, column].numpy().tobytes(), []).append(column)
    return [(columns, known[:, columns[0]]) for columns in groups.values()]


def _ridge(features: Float[Tensor, "N D"], targets: Float[Tensor, "N T"]) -> Float[Tensor, "E T"]:
    """Return the coefficients with an unpenalized bias; neighboring rows are alike, so that folds are runs of rows."""
    parts = [part for part in torch.arange(len(features)).chunk(FOLDS) if len(part) < len(features)]
    errors = torch.zeros(len(PENALTIES), dtype=features.dtype)
    for part in parts:
        rest = torch.ones(len(features), dtype=torch.bool)
        rest[part] = False
        for index, solved in enumerate(_solve(features[rest], targets[rest])):
            errors[index] += (_inputs(features[part], bias=True) @ solved - targets[part]).square().sum()
    return _solve(features, targets)[int(errors.argmin())]


def _solve(features: Float[Tensor, "N D"], targets: Float[Tensor, "N T"]) -> list[Float[Tensor, "E T"]]:
    """Return the coefficients for every penalty."""
    mean, center = features.mean(dim=0), targets.mean(dim=0)
    centered = features - mean
    values, vectors = torch.linalg.eigh(centered.mT @ centered)
    projected, scale = vectors.mT @ (centered.mT @ (targets - center)), values.clamp(min=0).mean()
    solved = (
        vectors @ (projected / (values.clamp(min=0) + penalty * scale.clamp(min=1e-12))[:, None])
        for penalty in PENALTIES
    )
    return [torch.cat([weights, (center - mean @ weights)[None]]) for weights in solved]
