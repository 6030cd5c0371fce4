"""Checks of health readings: thresholds, messages and remedies, and when to stop the run.

docs/health.md gives the reason for each threshold.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from limbeck.metrics.fidelity import NUM_NEIGHBORS

MIN_RANK, MIN_STD = 3.0, 0.1  # of the embeddings
MAX_DEAD_UNITS = 0.5  # fraction of the units
MAX_EMA_DISTANCE = 1.0  # squared distance of normalized features: a mean cosine of 1/2
MIN_GRAD_NORM = 1e-6
CHANCE_ERRORS = 2.0  # standard errors above chance that a student's agreement with its teacher has to be
PATIENCE = 3  # readings in a row before a run is stopped

HealthReading = Mapping[str, float]
"""A row of metrics.csv that has `step`, `grad_norm` and the columns of `HealthReader.read`."""


def collapsed(reading: HealthReading) -> bool:
    """Return whether the embeddings are a single point or span few directions, or are not numbers."""
    return not (reading["embedding_rank"] >= MIN_RANK and reading["embedding_std"] >= MIN_STD)


def undiagnosed(readings: Sequence[HealthReading], max_rank: int) -> bool:
    """Return whether too little was seen, or there is too little to compare, to call a run without issues healthy."""
    return max_rank < MIN_RANK or collapsed(readings[-1])


def agrees_by_chance(reading: HealthReading) -> bool:
    """Return whether a student preserves no more of the teacher's neighbors than chance and its error.

    Of N images, k / (N - 1) of k neighbors are shared by chance, with a standard error of sqrt(p (1 - p) / (N k)); k
    is counted as 1, since the neighbors of an image are not independent. So few images that every agreement is within
    this error show nothing.
    """
    if "neighbor_agreement_chance" not in reading:
        return False
    chance = reading["neighbor_agreement_chance"]
    images = NUM_NEIGHBORS / chance + 1
    bound = chance + CHANCE_ERRORS * math.sqrt(chance * (1 - chance) / images)
    return bound < 1 and not reading["neighbor_agreement"] > bound


class HealthCheck(NamedTuple):
    """A failure mode that a health reading can show, with its message and its remedy."""

    name: str
    condition: Callable[[HealthReading, HealthReading], bool]
    """Whether a reading shows it, given also the first reading of the run. It holds for values that are not numbers."""
    message: str
    advice: str
    stops_run: bool = False
    compares: bool = False
    """Whether it compares images or series, so that fewer than MIN_RANK of them show nothing."""


HEALTH_CHECKS = (
    HealthCheck(
        "representation collapse",
        lambda now, first: collapsed(now),
        "effective rank {embedding_rank:.1f} of at most {max_rank} and standard deviation {embedding_std:.3f} of the "
        "embeddings (0: all are equal, 1: evenly spread) since step {since:,}",
        "{collapse_hint}",
        stops_run=True,
        compares=True,
    ),
    HealthCheck(
        "frozen weights",
        lambda now, first: now["step"] > first["step"] and now["weight_hash"] == first.get("weight_hash"),
        "the weights of the encoder have not changed since step {since:,}",
        "a learning rate above 0, or a momentum of the EMA encoder below 1",
    ),
    HealthCheck(
        "vanishing gradient",
        lambda now, first: not now["grad_norm"] >= MIN_GRAD_NORM,
        "the norm of the gradient is {grad_norm:.1e} since step {since:,}",
        "a larger learning rate or another temperature, and check whether the loss still falls",
    ),
    HealthCheck(
        "dead units",
        lambda now, first: not now["dead_units"] <= MAX_DEAD_UNITS,
        "{dead_units:.0%} of the encoder's units have the same output for every image since step {since:,}",
        "a lower learning rate or less weight decay",
        compares=True,
    ),
    HealthCheck(
        "EMA divergence",
        lambda now, first: not now.get("ema_distance", 0.0) <= MAX_EMA_DISTANCE,
        "the mean squared distance between features of the encoder and of the EMA encoder is {ema_distance:.2f} "
        "of at most 4 since step {since:,}",
        "a lower momentum of the EMA encoder or a lower learning rate",
    ),
    HealthCheck(
        "teacher not followed",
        lambda now, first: agrees_by_chance(now),
        "the student preserves {neighbor_agreement:.1%} of the teacher's nearest neighbors, and unrelated features "
        "{neighbor_agreement_chance:.1%}, since step {since:,}",
        "more epochs, a higher learning rate, or a teacher that fits the images",
    ),
)


class HealthIssue(NamedTuple):
    """A failure mode that the last reading shows."""

    name: str
    message: str
    stops_run: bool


def diagnose(readings: Sequence[HealthReading], max_rank: int, collapse_hint: str) -> list[HealthIssue]:
    """Return the issues that the last reading shows; none without a reading.

    A single reading cannot show a collapse: networks start close to one.

    Args:
        readings: those of the run, in order.
        max_rank: the highest effective rank that the embeddings can have.
        collapse_hint: what the method advises against a collapse.
    """
    issues = []
    for check in HEALTH_CHECKS:
        if check.compares and max_rank < MIN_RANK:
            continue
        streak = 0
        while streak < len(readings) and check.condition(readings[-1 - streak], readings[0]):
            streak += 1
        if streak and not (check.stops_run and len(readings) == 1):
            since = int(readings[-streak]["step"])
            values = {**readings[-1], "max_rank": max_rank, "since": since, "collapse_hint": collapse_hint}
            message = f"{check.name}: {check.message}; try: {check.advice}".format(**values)
            issues.append(HealthIssue(check.name, message, check.stops_run and streak >= PATIENCE))
    return issues


def healthy_summary(readings: Sequence[HealthReading], max_rank: int) -> str:
    """Return the sentence for a run whose last reading shows no issue, or which has too little to compare."""
    last = readings[-1]
    verdict = "too short to diagnose" if undiagnosed(readings, max_rank) else "healthy"
    if max_rank < MIN_RANK:
        verdict = f"{max_rank} to compare and {MIN_RANK:.0f} needed to diagnose (a recording is cut with --window)"
    count = "1 reading" if len(readings) == 1 else f"{len(readings)} readings"
    return (
        f"{verdict}: effective rank {last['embedding_rank']:.1f} of at most {max_rank} and standard deviation "
        f"{last['embedding_std']:.2f} of the embeddings, {last['dead_units']:.0%} dead units at the end "
        f"({count} since the warm-up)"
    )
