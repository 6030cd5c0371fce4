"""Choose the part of its source that a run takes: not left out by name, and preparable within its time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from limbeck.core.text import plural
from limbeck.core.types import Dataset
from limbeck.data.sources.selection import Selection
from limbeck.data.store.layout import is_store
from limbeck.modalities import Modality
from limbeck.modalities.base import StoreModality
from limbeck.runs.request import RunRequest
from limbeck.teachers.config import PATCH_FILTERS

PREPARED, FEWEST = 50, 1000
"""Images that a run with a time takes at most, for each second and thread, and however short it is.

On one core photographs are decoded at 100 to 140 a second, and what precedes the first step takes about as long again.
"""
FEW_IMAGES = 5000
"""Up to so many images, weights that exist are the better start."""


def part_of_source(request: RunRequest, seconds: float | None, modality: Modality[Any, Any]) -> Selection:
    """Return the part of its source that a run takes, in `seconds` if it has a time; a store is used whole."""
    found = Selection.by(request.exclude, request.only, request.max_images)
    a_store = isinstance(request.source, str | Path) and is_store(Path(request.source))
    if found.max_images or seconds is None or a_store or not isinstance(modality, StoreModality):
        return found
    return replace(found, max_images=max(FEWEST, int(PREPARED * seconds * torch.get_num_threads())))


def remarks_on_amount(request: RunRequest, modality: Modality[Any, Any], data: Dataset) -> list[str]:
    """Return why a run has only a part of its source, or what is better than a run from nothing if it has few rows."""
    if used := modality.selection(data).max_images:
        part = f"{used:,} images, drawn at random, so that reading them leaves time to train (--max-images)"
        return [] if request.max_images else [part]
    advice = few_images_advice(request, len(data)) if modality.takes_filters else None
    return [advice] if advice else []


def few_images_advice(request: RunRequest, images: int) -> str | None:
    """Return a sentence for a run that begins with random weights and has few images."""
    if request.start or images > FEW_IMAGES or (request.teacher and request.teacher.name != PATCH_FILTERS):
        return None
    return (
        f"{plural(images, 'image')} alone {'is' if images == 1 else 'are'} little to learn from: weights that exist "
        "are a better start (`limbeck adapt SOURCE --from timm:NAME`, recipe small-set)"
    )
