"""Health without labels: from which numbers on somebody should know, what to say then, and when to stop.

docs/health.md gives the reason for each threshold.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

LEAST_RANK, LEAST_DEVIATION = 3.0, 0.1  # of the embeddings
MOST_DEAD = 0.5  # share of the units
FARTHEST = 1.0  # teacher from student: a mean cosine of 1/2
LEAST_GRADIENT = 1e-6
PATIENCE = 3  # readings in a row before a run is stopped

Reading = Mapping[str, float]
"""A row of metrics.csv that has `step`, `grad_norm` and the columns of `HealthReader.read`."""


def collapsed(now: Reading) -> bool:
    """Whether the embeddings of a reading are all alike, or few directions; so are those that are not numbers."""
    return not (now["embedding_rank"] >= LEAST_RANK and now["deviation"] >= LEAST_DEVIATION)


class HealthCheck(NamedTuple):
    """Something that can be wrong."""

    name: str
    shows: Callable[[Reading, Reading], bool]
    """Whether a reading, the second argument being the first of the run, has it. Not-a-number always has."""
    says: str
    advice: str
    stops: bool = False


HEALTH_CHECKS = (
    HealthCheck(
        "collapsing",
        lambda now, first: collapsed(now),
        "effective rank {embedding_rank:.1f} of {of} since step {since:,}; embeddings deviate by {deviation:.3f} "
        "(0: all are alike, 1: they point everywhere)",
        "{collapse_hint}",
        stops=True,
    ),
    HealthCheck(
        "standing still",
        lambda now, first: now["step"] > first["step"] and now["weight_norm"] == first["weight_norm"],
        "the weights of the encoder have not moved since step {since:,}",
        "a learning rate above 0, or a teacher's momentum below 1",
    ),
    HealthCheck(
        "no gradient",
        lambda now, first: not now["grad_norm"] >= LEAST_GRADIENT,
        "the norm of the gradient is {grad_norm:.1e} since step {since:,}",
        "a larger learning rate or another temperature, and look whether the loss still falls",
    ),
    HealthCheck(
        "dead units",
        lambda now, first: not now["dead_units"] <= MOST_DEAD,
        "{dead_units:.0%} of the encoder's units answer alike to every image since step {since:,}",
        "a lower learning rate or less weight decay",
    ),
    HealthCheck(
        "teacher and student apart",
        lambda now, first: not now.get("ema_distance", 0.0) <= FARTHEST,
        "the squared distance of their features is {ema_distance:.2f} of at most 4 since step {since:,}",
        "a lower momentum of the teacher or a lower learning rate",
    ),
)


class Finding(NamedTuple):
    """A sign that the last reading shows."""

    name: str
    sentence: str
    stops: bool


def diagnose(readings: Sequence[Reading], of: int, collapse_hint: str) -> list[Finding]:
    """What the last of the readings shows; `of` is the highest rank possible. Nothing without a reading.

    A single one tells no collapse: networks start close to it, and there is none yet that they came from.
    """
    found = []
    for sign in HEALTH_CHECKS:
        streak = 0
        while streak < len(readings) and sign.shows(readings[-1 - streak], readings[0]):
            streak += 1
        if streak and not (sign.stops and len(readings) == 1):
            since = int(readings[-streak]["step"])
            words = {**readings[-1], "of": of, "since": since, "collapse_hint": collapse_hint}
            sentence = f"{sign.name}: {sign.says}; try: {sign.advice}".format(**words)
            found.append(Finding(sign.name, sentence, sign.stops and streak >= PATIENCE))
    return found


def all_is_well(readings: Sequence[Reading], of: int) -> str:
    """The sentence of a run whose last reading shows no sign."""
    last = readings[-1]
    verdict = "too short to judge" if collapsed(last) else "healthy"
    times = "once" if len(readings) == 1 else f"{len(readings)} times"
    return (
        f"{verdict}: effective rank {last['embedding_rank']:.1f} of {of}, deviation {last['deviation']:.2f}, "
        f"{last['dead_units']:.0%} dead units at the end; read {times} since the warm-up"
    )
