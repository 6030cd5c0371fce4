"""Length of a training: epochs that suit a number of images, and steps that fit into a time."""

import math
import re

from limbeck.core.errors import UserError
from limbeck.core.text import format_duration

FEWEST_EPOCHS, MOST_EPOCHS = 100, 1000
AUTO_IMAGES = 1e9  # 100 epochs from 100,000 images on; a tenth as many images get sqrt(10) times the epochs
CPU_SHARE = 0.1  # of the epochs: a CPU takes 10 to 100 times as long as a GPU
FEWEST_STEPS = 20  # of a run that has to fit into a time: fewer do not even warm up
USABLE = 0.95  # of a time that was given: evaluations and checkpoints take the rest

_DURATION = re.compile(r"(?=.)(?:(\d+\.?\d*)h)?(?:(\d+\.?\d*)m)?(?:(\d+\.?\d*)s)?")


def auto_epochs(images: int, device: str) -> int:
    """Return the epochs for so many images: 1,000 for 1,000 images, 316 for 10,000, 100 from 100,000 on.

    On a CPU (`device` is "cpu") it is a tenth of that.
    """
    epochs = min(max(math.sqrt(AUTO_IMAGES / max(images, 1)), FEWEST_EPOCHS), MOST_EPOCHS)
    return round(epochs * (CPU_SHARE if device == "cpu" else 1))


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `"30m"`, `"90s"`, `"1.5h"` or `"1h30m"`.

    Raises:
        UserError: it is none, or not more than 0.
    """
    found = _DURATION.fullmatch(text.replace(" ", ""))
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise UserError(
            f"'{text}' is not a time: give hours, minutes or seconds, such as 2h, 30m, 90s or 1h30m", code="bad-time"
        )
    return total


def steps_within(seconds: float, seconds_per_step: float, spent: float = 0.0) -> int:
    """Return the number of optimizer steps that fit into a time of which some seconds are `spent`.

    Raises:
        UserError: hardly any do.
    """
    steps = int((USABLE * seconds - spent) / seconds_per_step)
    if steps < FEWEST_STEPS:
        needed = (FEWEST_STEPS * seconds_per_step + spent) / USABLE
        preparing = (
            f"{format_duration(spent)} have passed before the first step (most of what took them is kept, and the same "
            "command finds it), "
            if spent > seconds_per_step
            else ""
        )
        raise UserError(
            f"{format_duration(seconds)} is too short: {preparing}a step takes {format_duration(seconds_per_step)}, "
            f"and a run has at least {FEWEST_STEPS}; give {math.ceil(needed)}s or more, smaller images or a smaller "
            "batch",
            code="time-too-short",
        )
    return steps
