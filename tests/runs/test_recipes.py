"""Recipes: every one resolves, states what it costs and what to expect, and gives way to what is named beside it."""

import json
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest

from limbeck.api.options import make_request
from limbeck.cli import VERBS, arguments
from limbeck.methods import SimCLRConfig, SimRegConfig
from limbeck.runs.choose import fill, usual_method
from limbeck.runs.recipes import RECIPES, Verb, describe, find_recipe, recipe_file
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import chosen_method
from limbeck.teachers.config import PATCH_FILTERS, TeacherConfig
from limbeck.train.config import TrainConfig
from tests.helpers.commands import Run
from tests.helpers.distill import images
from tests.helpers.errors import raises


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_command_hardware_time_and_expectation(name: str) -> None:
    found = describe(name)
    assert {"summary", "command", "hardware", "time", "expect"} <= {*found}
    assert all(found.values())
    assert any(spread in found["expect"] for spread in ("standard error", "seed"))


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_of_a_recipe_is_one_and_has_its_settings(name: str) -> None:
    program, verb, *words = shlex.split(describe(name)["command"])
    assert (program, verb) == ("limbeck", find_recipe(name).verb)
    args = arguments.parse(arguments.with_output(VERBS[verb].arguments(words)), words, verb).args
    given = {"teacher": getattr(args, "teacher", None), "start": args.start if args.start.name else None}
    filled = fill(given, recipe_file(name))
    assert args.method == filled["method"]
    assert args.optim == filled["optim"]
    if "backbone" in recipe_file(name):
        assert getattr(args, "student" if verb == "distill" else "backbone") == filled["backbone"]


def test_what_is_given_wins_over_a_recipe() -> None:
    request = make_request("photos", {"recipe": "laptop", "method_views": "weak", "optim_lr": 0.5}, verb="distill")
    assert request.method == SimRegConfig(views="weak")
    assert request.optim is not None
    assert (request.optim.lr, request.time) == (0.5, "10m")
    assert request.teacher == TeacherConfig(name=PATCH_FILTERS)
    named = make_request("photos", {"recipe": "contrast", "method": "byol", "epochs": 3}, verb="pretrain")
    assert (usual_method(named).name, named.training.epochs) == ("byol", 3)
    teacher = make_request("photos", {"recipe": "phone", "teacher": "resnet50"}, verb="distill").teacher
    assert teacher == TeacherConfig(name="resnet50", targets="image")


def test_a_time_or_epochs_replace_those_of_a_recipe() -> None:
    given: dict[str, Any] = {"recipe": "laptop"}
    assert make_request("photos", given | {"time": "2h"}, verb="distill").time == "2h"
    assert make_request("photos", given | {"epochs": 2}, verb="distill").time is None
    assert make_request("photos", {"recipe": "cifar10-gpu"}).training.epochs == 90
    timed = make_request("photos", {"recipe": "cifar10-gpu", "time": "2h"})
    assert (timed.time, timed.training.epochs, timed.training.batch_size) == ("2h", "auto", 512)


def test_on_the_command_line_a_time_replaces_the_epochs_of_a_recipe(limbeck: Run) -> None:
    for more, error in (([], "source-missing"), (["--epochs", "3"], "time-and-epochs")):
        code, out, _ = limbeck("pretrain", "no-photos", "--recipe", "cifar10-gpu", "--time", "30m", *more, "--json")
        assert (code, json.loads(out)["error"]["code"]) == (1, error)


def test_wrong_recipes_are_refused_by_name() -> None:
    with raises("unknown-recipe", "'lapto'", "'laptop'"):
        find_recipe("lapto")
    with raises("recipe-of-other-command", "limbeck distill"):
        make_request("photos", {"recipe": "laptop"}, verb="pretrain")
    with raises("no-teacher"):
        make_request("photos", {"recipe": "phone"}, verb="distill")


def test_a_recipe_and_a_file_are_not_taken_together(limbeck: Run, tmp_path: Path) -> None:
    code, out, _ = limbeck("pretrain", "x", "--recipe", "contrast", "--config", tmp_path / "a.yaml", "--json")
    assert (code, '"two-sources"' in out) == (1, True)


def test_the_list_and_one_recipe_are_printed(limbeck: Run) -> None:
    assert all(name in limbeck("recipes")[1] for name in RECIPES)
    shown = limbeck("recipes", "laptop")[1]
    assert describe("laptop")["command"] in shown
    assert PATCH_FILTERS in shown


def test_the_folder_of_a_run_is_named_after_the_method_that_is_chosen() -> None:
    on_cpu = TrainConfig(accelerator="cpu")
    assert chosen_method(RunRequest(source=images(), training=on_cpu)).name == "simreg"
    assert chosen_method(RunRequest(source="photos", training=on_cpu, method=SimCLRConfig())).name == "simclr"


def test_every_recipe_is_for_a_command() -> None:
    assert {find_recipe(name).verb for name in RECIPES} <= {*get_args(Verb)} <= {*VERBS}
