"""Distances of annotated keypoints from those that follow, by linear regression, from found ones."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from limbeck.data.annotated import AnnotatedPair
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import STDERR, Column, Metric, Values, decimals, share_column
from limbeck.metrics.keypoints import (
    PIXELS,
    Split,
    distances,
    eye_distances,
    mirrored_distances,
    near,
    summed_errors,
)


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Fit on the training images and measure on the test images."""
    pair = inputs.data.keypoints
    assert pair is not None, "a model of keypoints is measured on annotated images"
    found: dict[int, Values] = {}
    for depth in inputs.depths:
        train, test = (bank[depth].cpu().double() / 2 + 0.5 for bank in (inputs.train_bank, inputs.test_bank))
        found[depth] = protocols(train, test, pair)
    return found


def protocols(train: Tensor, test: Tensor, pair: AnnotatedPair) -> Values:
    """Return the value of every protocol that is defined for these keypoints, each with its standard error.

    Args:
        train, test: found keypoints, [N D] and [M D], from 0 to 1 along a side.
        pair: the annotated ones.
    """
    fit, measured = Split(train, torch.from_numpy(pair.train)), Split(test, torch.from_numpy(pair.test))
    values = with_error("keypoint_error", distances(fit, measured).nanmean(dim=1))
    pixels = [Split(PIXELS * split.found, PIXELS * split.truth) for split in (fit, measured)]
    values |= with_error("keypoint_sum", summed_errors(*pixels))
    if torch.cat([fit.truth, measured.truth]).isnan().any():
        return values
    values |= with_error("keypoint_near", near(*pixels).double().mean(dim=1))
    if pairs := pair.pairs():
        values |= with_error("keypoint_mirrored", mirrored_distances(fit, measured, pairs)[1])
    if eyes := pair.eyes():
        between = (measured.truth[:, eyes[0]] - measured.truth[:, eyes[1]]).norm(dim=1)
        values |= with_error("keypoint_eyes", eye_distances(fit, measured, between))
    return values


def with_error(name: str, images: Tensor) -> Values:
    """Return the mean over images and its standard error; images without a value, NaN, do not count."""
    counted = images[~images.isnan()]
    return {name: counted.mean().item(), name + STDERR: (counted.std() / len(counted) ** 0.5).item()}


def _columns(*columns: Column) -> tuple[Column, ...]:
    """Return the columns, each followed by that of its standard error."""
    help_of: Callable[[Column], str] = "standard error of `{0.name}` over the test images".format
    errors = (replace(column.stderr(), help=help_of(column), priority=2) for column in columns)
    return tuple(column for pair in zip(columns, errors, strict=True) for column in pair)


METRIC = Metric(
    group="accuracy",
    columns=_columns(
        share_column(
            name="keypoint_error",
            label="keypoint error",
            short="keypt error",
            unit="% of side",
            format=decimals(2),
            better="lower",
            help="of keypoints: mean distance of the annotated ones from those that follow from the found ones by "
            "linear regression with a bias",
        ),
        share_column(
            name="keypoint_mirrored",
            label="error, mirrored",
            unit="% of side",
            format=decimals(2),
            better="lower",
            priority=1,
            help="the same by AutoLink's protocol for Human3.6M, an oracle: without a bias, and the truth of an image "
            "is mirrored where that is nearer (names with left and right)",
        ),
        share_column(
            name="keypoint_near",
            label="within 6 of 255",
            better="higher",
            priority=1,
            help="share of keypoints within 6 pixels of 255, AutoLink's protocol for DeepFashion, without a bias",
        ),
        share_column(
            name="keypoint_eyes",
            label="error by eyes",
            format=decimals(2),
            better="lower",
            priority=1,
            help="mean distance in units of the distance of left_eye and right_eye, AutoLink's protocol for CelebA, "
            "without a bias",
        ),
        Column(
            name="keypoint_sum",
            label="summed error",
            unit="of 255",
            format=decimals(1),
            better="lower",
            priority=2,
            help="sum over coordinates of the mean absolute error in pixels of 255, AutoLink's protocol for Taichi",
        ),
    ),
    needs=frozenset({"keypoints"}),
    untrained=True,
    compute=compute,
)
