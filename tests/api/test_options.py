"""Keywords set options by the names of the flags, over names and configurations; a wrong one is named."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

import limbeck
from limbeck.api.options import make_request
from limbeck.cli import VERBS
from limbeck.cli.flags import list_flags
from limbeck.methods import BYOLConfig, MoCoV3Config, SDSSLConfig, SimCLRConfig, method_config, method_names
from limbeck.methods.config.base import DistillConfig
from limbeck.models.config import BackboneConfig
from limbeck.runs.defaults import DISTILL_OPTIM, default_optim
from limbeck.runs.recipes import Verb
from limbeck.series.sources import open_series
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig
from tests.helpers.errors import raises


def test_names_become_configurations() -> None:
    request = make_request("photos", {"method": "simclr", "backbone": "resnet18", "optim": "sgd", "epochs": 50})
    assert request.method == SimCLRConfig()
    assert request.backbone == BackboneConfig(name="resnet18")
    assert request.optim == replace(default_optim("resnet18"), name="sgd")
    assert request.training == TrainConfig(epochs=50)


def test_what_is_not_given_is_left_to_the_run() -> None:
    request = make_request("photos", {"batch_size": 64})
    assert (request.method, request.backbone, request.optim, request.teacher) == (None, None, None, None)
    assert request.training == TrainConfig(batch_size=64)


def test_a_keyword_wins_over_the_configuration_that_it_belongs_to() -> None:
    given = {"method": SimCLRConfig(temperature=0.3, dim=64), "training": TrainConfig(epochs=3, seed=4)}
    request = make_request("photos", {**given, "method_temperature": 0.1, "epochs": 5})
    assert request.method == SimCLRConfig(temperature=0.1, dim=64)
    assert request.training == TrainConfig(epochs=5, seed=4)


def test_a_host_is_a_name_or_a_configuration() -> None:
    request = make_request("photos", {"method": "sdssl", "method_host": "mocov3", "method_host_dim": 64})
    assert request.method == SDSSLConfig(host=MoCoV3Config(dim=64))
    request = make_request("photos", {"method": "sdssl", "method_host": BYOLConfig(dim=8), "method_hidden": 9})
    assert request.method == SDSSLConfig(host=BYOLConfig(dim=8), hidden=9)
    with raises("no-host", "simclr"):
        make_request("photos", {"method": "simclr", "method_host": "byol"})


def test_a_distillation_has_a_student_and_a_teacher() -> None:
    given = {"teacher": "resnet50", "teacher_cached_views": 4, "student": "resnet18", "student_image_size": 64}
    request = make_request("photos", {**given, "optim_lr": 0.5}, verb="distill")
    assert request.teacher == TeacherConfig(name="resnet50", cached_views=4)
    assert request.backbone == BackboneConfig(name="resnet18", image_size=64)
    assert request.optim == replace(DISTILL_OPTIM, lr=0.5)
    with raises("no-distiller", "simclr"):
        make_request("photos", {"teacher": "resnet50", "method": "simclr"}, verb="distill")


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        ("epoch", "epochs"),
        ("lr", "optim_lr"),
        ("learning_rate", "optim_lr"),
        ("temperature", "method_temperature"),
        ("image_size", "backbone_image_size"),
        ("model", "backbone"),
        ("method_temprature", "method_temperature"),
    ],
)
def test_an_unknown_keyword_is_answered_with_the_one_meant(keyword: str, meant: str) -> None:
    with raises("unknown-option", f"'{keyword}'", f"'{meant}'"):
        make_request("photos", {"method": "simclr", keyword: 1})


@pytest.mark.parametrize(
    ("given", "code", "values"),
    [
        ({"epochs": "many"}, "wrong-type", ("epochs", "many")),
        ({"optim": "adm"}, "wrong-type", ("optim", "adm")),
        ({"optim_betas": 3}, "wrong-type", ("optim_betas", "3")),
        ({"method": "simclrr"}, "unknown-method", ("simclrr", "simclr")),
        ({"training": "long"}, "wrong-type", ("training", "long")),
    ],
)
def test_a_wrong_value_is_named_with_its_keyword(given: dict[str, object], code: str, values: tuple[str, ...]) -> None:
    with raises(code, *values):
        make_request("photos", given)


@pytest.mark.parametrize(
    ("call", "code", "value"),
    [
        (lambda: limbeck.embed("photos", cast(Any, None)), "wrong-type", "None"),
        (lambda: limbeck.evaluate("runs/a", "a.ts", "b.ts", others=[3]), "wrong-type", "others has 3"),
        (lambda: limbeck.compare(cast(Any, 3), "photos"), "wrong-type", "networks has 3"),
        (lambda: limbeck.compare("runs/a", "photos"), "too-few-networks", "networks"),
        (lambda: limbeck.report(cast(Any, [None])), "wrong-type", "runs has None"),
        (lambda: open_series(7), "unknown-source", "7"),
    ],
)
def test_what_is_no_name_is_refused_as_such(call: Callable[[], object], code: str, value: str) -> None:
    with raises(code, value):
        call()


@pytest.mark.parametrize("name", method_names())
def test_every_flag_is_a_keyword(name: str) -> None:
    """A value that no option can have is refused for the option, not for its name."""
    distills = issubclass(method_config(name), DistillConfig)
    verb: Verb = "distill" if distills else "pretrain"
    given = {"teacher": "resnet50"} if distills else {}
    named = {"method": name, **given}
    argv = [word for key, value in named.items() for word in (f"--{key}", value)]
    not_for_runs = {"--out", "--config", "--print-config"}
    for flag in list_flags(VERBS[verb].arguments(argv)):
        if not flag.positional and flag.name not in not_for_runs and flag.name not in ("--method", "--teacher"):
            keyword = max(flag.spellings, key=lambda text: "no-" not in text)
            keyword = keyword.removeprefix("--").replace(".", "_").replace("-", "_")
            keyword = re.sub("^from", "start", keyword)  # `from` is a word of Python
            with pytest.raises(Exception) as caught:
                make_request("photos", {**named, "start": "timm:resnet18", keyword: object()}, verb=verb)
            assert getattr(caught.value, "code", "") != "unknown-option", flag.name
            assert keyword in str(caught.value) or keyword.rpartition("_")[2] in str(caught.value)


def test_an_optimizer_is_a_configuration_too() -> None:
    assert make_request("photos", {"optim": OptimConfig(lr=3.0)}).optim == OptimConfig(lr=3.0)
