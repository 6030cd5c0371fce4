"""Complete a request by a recipe: the one that it names, or the one that suits the machine and the time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from limbeck.core.config_file import ConfigFile
from limbeck.core.resolved import Resolved
from limbeck.methods import MethodConfig, method_config
from limbeck.modalities import Modality
from limbeck.models.config import BackboneConfig
from limbeck.runs.defaults import default_method, default_optim
from limbeck.runs.recipes import find_recipe, recipe_file
from limbeck.runs.request import RunRequest
from limbeck.runs.source_part import part_of_source
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import TrainConfig
from limbeck.train.length import parse_duration

SOON = 3600.0
"""Seconds within which a recipe is the default on a CPU; a run of hours is left to the default method."""
MANY_IMAGES = 10_000
"""From so many images on, the recipe contrast is the default, else laptop.

SimCLR is ahead of a student of patch filters after ten minutes of 10,000 or 50,000 images, and behind it with 3,000
(BENCHMARKS.md); what lies between has not been measured.
"""


def choose_recipe(request: RunRequest, why_small: str, modality: Modality[Any, Any]) -> Resolved[RunRequest]:
    """Return a request that names neither method nor network with the recipe for a CPU and a short time, and why.

    `why_small` is what `runs_small` returns. A request with epochs of its own is left to the default method.
    """
    named = (request.method, request.backbone, request.optim, request.start, request.teacher)
    long = request.training.epochs != "auto" or seconds_of(request.time) > SOON
    if long or any(named) or not (why_small and modality.takes_filters):
        return Resolved(request, [])
    seconds = seconds_of(request.time or find_recipe("contrast").time)
    count = modality.known_count(request.source, part_of_source(request, seconds, modality))
    many = count is not None and count >= MANY_IMAGES
    name, usual = "contrast" if many else "laptop", default_method().name
    own = find_recipe(name).time if request.training.num_processes == 1 else None  # of several a time cannot be planned
    amount = f"{MANY_IMAGES:,} images or more" if many else f"fewer than {MANY_IMAGES:,} images"
    amount += "" if count is not None else ", or a number that is not known before they are read"
    reasons = [
        f"{why_small}: recipe {name}, as for every run of at most {SOON / 60:g} minutes with {amount} "
        f"(--method {usual} for the usual settings; `limbeck recipes`)"
    ]
    if own and not (request.time or request.quick):
        reasons.append(f"it takes {own} (--time 1h)")
    settings = fill(vars(request), recipe_file(name)) | {"backbone": None}  # the small one, which suits the images
    return Resolved(replace(request, time=request.time or own, **settings), reasons)


def usual_method(request: RunRequest, modality: str = "images") -> MethodConfig:
    """Return the method of a request that names none: by the data, and by whether there is a teacher, and which."""
    return request.method or default_method(request.teacher.name if request.teacher else "", modality)


def fill(given: Mapping[str, Any], recipe: ConfigFile) -> dict[str, Any]:
    """Return the configurations of a run, those of `given` that are None or absent from the settings of a recipe.

    Args:
        given: `method`, `backbone`, `optim`, `teacher`, `start` and `training`.
        recipe: what `recipe_file` returns. What it says about a teacher is laid over a given one, too.
    """
    name, teacher = recipe.name_in("teacher"), given.get("teacher")
    teacher = teacher or (TeacherConfig(name=name) if name else None)
    backbone = given.get("backbone") or recipe.section("backbone", BackboneConfig)
    usual = default_optim(backbone.name if backbone else "", teacher is not None, given.get("start") is not None)
    return {
        "teacher": recipe.over(teacher, "teacher", named=True) if teacher else None,
        "method": given.get("method") or recipe.section("method", method_config(recipe.name_in("method") or "")),
        "backbone": backbone,
        "optim": given.get("optim") or recipe.over(usual, "optim"),
        "training": given.get("training") or recipe.over(TrainConfig(), "training"),
    }


def seconds_of(time: str | float | None) -> float:
    """Return the seconds of a time as a request has it; 0 without one."""
    return parse_duration(time) if isinstance(time, str) else time or 0.0
