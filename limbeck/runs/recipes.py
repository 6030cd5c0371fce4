"""Recipes: settings of a whole run under a name, each with the command, the hardware, the time and what to expect.

A recipe is the content of a configuration file, with the keys of config.json, so that every flag wins over it. The
numbers in its docstring are those of BENCHMARKS.md; what has not been measured says so.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.core.config import Json
from limbeck.core.config_file import ConfigFile
from limbeck.core.errors import UserError, did_you_mean
from limbeck.modalities.images.sizes import FILTERS, JOINED_ARGS, SMALL_NETWORK
from limbeck.teachers.config import PATCH_FILTERS

Verb = Literal["pretrain", "distill", "adapt"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that a recipe gives a run; everything else is chosen as without one."""

    verb: Verb
    """The command that it is for."""
    settings: Mapping[str, Json]
    """Sections of config.json, also parts of them."""
    time: str | None = None
    """Within which the run ends, unless epochs or another time are given."""


def laptop() -> Recipe:
    """Follow features that need no training, and end joined with them: for a few thousand images and minutes of a CPU.

    Command: limbeck distill photos/ --recipe laptop
    Hardware: 2 cores of a CPU (Xeon with AMX), idle
    Time: 10 minutes, of which 50,000 images of 32 pixels took 9.4
    Expect: CIFAR-10 (JPEG 75), 20-NN among 50,000 images: 68.9 ± 0.2 % with three seeds of a small ResNet, standard
        error 0.5 (filters alone 66.8 %, recipe contrast 72.4 %). The plain CNN has 1.7 points more after 600 steps.
    """
    views: dict[str, Json] = {"name": "simreg", "views": "light"}
    teacher: dict[str, Json] = {"name": PATCH_FILTERS}
    return Recipe(verb="distill", settings={"teacher": teacher, "method": views, "optim": {"lr": 8e-3}}, time="10m")


def contrast() -> Recipe:
    """Train on 10,000 images or more alone, by contrast within the batch, and end joined with patch filters.

    Command: limbeck pretrain photos/ --recipe contrast --time 60m
    Hardware: 2 cores of a CPU (AMD EPYC with AVX-512)
    Time: 54 minutes for 46 epochs of 50,000 images of 32 pixels
    Expect: CIFAR-10 (JPEG 75), 20-NN among 50,000 images: 76.3 ± 0.3 % with three seeds, after ten minutes 72.4 %
        (patch filters alone 66.8, raw pixels 45.8), on one core 71.1 and 71.6 with two more seeds; standard error 0.4.
        Of 3,000 images the recipe laptop makes more.
    """
    heads: dict[str, Json] = {"hidden": 512, "projector_layers": 3, "dim": 128, "trailing_norm": False}
    backbone: dict[str, Json] = {"name": SMALL_NETWORK, "args": JOINED_ARGS, "patch_filters": FILTERS}
    return Recipe(
        verb="pretrain",
        settings={
            "method": {"name": "simclr", "views": "mocov2", **heads},
            "backbone": backbone,
            "optim": {"name": "adamw", "lr": 4e-3, "weight_decay": 0.01},
        },
        time="10m",
    )


def small_set() -> Recipe:
    """Adapt weights that exist to few images, 200 to 5,000, held to the weights loosely.

    Command: limbeck adapt photos/ --from timm:tf_efficientnet_lite0 --recipe small-set
    Hardware: 1 core of a busy CPU (Xeon with AMX)
    Time: 1.5 minutes for 1,000 images of 64 pixels
    Expect: 1,000 CIFAR-10 images (JPEG 75), 20-NN of 1,000 others: 4.8 ± 1.3 points above the weights (51.4 %), half-
        whitened 3.2 ± 1.4; one seed. The held-out images were too few to show it, so encoder/ held the weights.
    """
    training: dict[str, Json] = {"epochs": 2.5, "batch_size": 64}
    return Recipe(verb="adapt", settings={"method": {"name": "anchor"}, "optim": {"lr": 6e-4}, "training": training})


def phone() -> Recipe:
    """Distill a large network into a small one, joined with patch filters: 0.96 million parameters, 0.14 GFLOPs.

    Command: limbeck distill photos/ --teacher timm:tf_efficientnet_lite0 --recipe phone --out runs/phone
    Then: limbeck export runs/phone phone/ --format onnx
    Hardware: 2 cores of a CPU (AMD EPYC with AVX-512), idle
    Time: 2.6 minutes for the vectors of 50,000 images of 96 pixels, 5.5 for 12 epochs of 50,000 images of 32 pixels
    Expect: CIFAR-10 (JPEG 75), teacher EfficientNet-Lite0 at 96 pixels (74.2 %), --time 10m, 20-NN among 50,000
        images: 78.0 % after 9.1 minutes (patch filters alone 66.8), and 28.5 % of the teacher's neighbors; on one
        core 76.4 and 76.6 %, and 26.1 %, with two more seeds; standard error 0.4
    """
    backbone: dict[str, Json] = {"name": SMALL_NETWORK, "args": JOINED_ARGS}
    return Recipe(
        verb="distill",
        settings={
            "teacher": {"targets": "image"},
            "method": {"name": "simreg", "views": "light", "head": "solved"},
            "backbone": backbone | {"patch_filters": FILTERS},
            "optim": {"lr": 1.6e-2},
            "training": {"epochs": 10},
        },
    )


def cut_anywhere() -> Recipe:
    """Train every layer of a ViT on the targets of the last one, so that the network can be cut at any depth.

    Command: limbeck pretrain photos/ --recipe cut-anywhere
    Hardware: 1 core of a CPU (Xeon with AMX)
    Time: 10 minutes for 5 epochs of 50,000 images of 32 pixels, with a ViT 64 wide and 6 deep
    Expect: CIFAR-10 (JPEG 75), 20-NN against the host alone at equal steps: +1.7 ± 0.7, +0.8 ± 0.4, +0.3 ± 0.1,
        +0.6 ± 0.3, +0.5 ± 0.6 and +0.1 ± 0.5 points at layers 1 to 6; three seeds. Longer runs have not been measured.
    """
    host: dict[str, Json] = {"name": "mocov3", "hidden": 256, "dim": 128, "ema_momentum": 0.99}
    return Recipe(
        verb="pretrain",
        settings={
            "method": {"name": "sdssl", "hidden": 256, "host": host},
            "backbone": {"name": "vit_tiny_patch16_224"},
            "optim": {"lr": 1e-3, "weight_decay": 0.05},
        },
    )


def cifar10_gpu() -> Recipe:
    """Train a ResNet-18 on CIFAR-10 with one GPU, in minutes.

    Command: limbeck pretrain cifar10/train.parquet --recipe cifar10-gpu
    Hardware: 1 NVIDIA H200
    Time: 4 minutes for 90 epochs of 50,000 images
    Expect: CIFAR-10 (JPEG 75), 20-NN among 50,000 images: 78.4 %, linear 78.6 %; one seed, standard error 0.4
    """
    return Recipe(
        verb="pretrain",
        settings={
            "method": {"name": "simclr", "views": "mocov2", "temperature": 0.2},
            "backbone": {"name": "resnet18", "image_size": 32},
            "optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
            "training": {"epochs": 90, "batch_size": 512, "compile": True},
        },
    )


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    recipe.__name__.replace("_", "-"): recipe
    for recipe in (laptop, contrast, small_set, phone, cut_anywhere, cifar10_gpu)
}
"""Every recipe by the name that `--recipe` takes."""


def find_recipe(name: str, verb: Verb | None = None) -> Recipe:
    """Return a recipe by its name; UserError with the nearest name, or if it is for another command than `verb`."""
    if name not in RECIPES:
        raise UserError(
            f"there is no recipe '{name}'{did_you_mean(name, RECIPES)}; `limbeck recipes` lists them",
            code="unknown-recipe",
        )
    recipe = RECIPES[name]()
    if verb and recipe.verb != verb:
        raise UserError(
            f"the recipe '{name}' is for another command: {describe(name)['command']}", code="recipe-of-other-command"
        )
    return recipe


def recipe_file(name: str, verb: Verb | None = None) -> ConfigFile:
    """Return the settings of a recipe as those of a file; raises as `find_recipe`."""
    return ConfigFile(f"recipe {name}", find_recipe(name, verb).settings)


def describe(name: str) -> dict[str, str]:
    """Parse the docstring of a recipe: `summary`, `command`, `hardware`, `time`, `expect` ..."""
    summary, _, fields = (inspect.getdoc(RECIPES[name]) or "").partition("\n\n")
    found: dict[str, Any] = {"summary": summary}
    for key, text in re.findall(r"^(\w+): (.*(?:\n +.*)*)", fields, re.M):
        found[key.lower()] = re.sub(r"(?<=\w)- (?=\w)", "-", " ".join(text.split()))
    return found
