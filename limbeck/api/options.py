"""Keywords instead of flags: `optim_lr=0.06` is `--optim.lr 0.06`, `epochs=50` is `--epochs 50`.

A keyword sets one option of a configuration, over what the configuration or its name brings; the others stay.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

from limbeck.core.config import NamedConfig, convert, to_json
from limbeck.core.errors import UserError
from limbeck.core.suggest import meaning, suggest
from limbeck.data.sources.open import Source
from limbeck.methods import HostConfig, MethodConfig, distill_config, method_config
from limbeck.modalities import default_config
from limbeck.models.config import StartConfig
from limbeck.runs.choose import fill
from limbeck.runs.defaults import (
    check_adapted,
    choose_modality,
    default_method,
    default_optim,
    default_training,
    runs_small,
)
from limbeck.runs.recipes import Verb, find_recipe, recipe_file
from limbeck.runs.request import RunRequest
from limbeck.teachers.config import TeacherConfig

T = TypeVar("T")
SECTIONS = ("method", "optim", "teacher", "start", "backbone")
"""Configurations with options whose keywords begin with their name; those of the training have no prefix."""
CONFIGS = ("method", "optim", "teacher", "start", "training", "backbone")  # the optimizer depends on the backbone


def make_request(source: Source, given: Mapping[str, Any], *, verb: Verb | None = None) -> RunRequest:
    """Return the request for a run on `source` that keywords describe.

    Args:
        source: the images.
        given: the fields of `RunRequest`, where `method`, `backbone`, `optim`, `teacher` and `start` may also be names,
            `recipe`, the name of one, and options such as `epochs`, `optim_lr` or `method_temperature`.
        verb: the command; the backbone of a distillation is its `student`. None: that of the recipe, or `pretrain`.

    Raises:
        UserError: a keyword or a name is unknown, or a value has the wrong type.
    """
    recipe = given.get("recipe")
    if not isinstance(recipe, str | None):
        raise UserError(f"recipe is {recipe!r}: give the name of one (`limbeck recipes`)", code="wrong-type")
    if verb == "adapt":
        check_adapted(choose_modality(source, None, None))
    distills = (verb or (find_recipe(recipe).verb if recipe else "")) == "distill"
    network = "student" if distills else "backbone"
    fields = {field.name for field in dataclasses.fields(RunRequest)}
    known = {network if name == "backbone" else name for name in fields - {"source"}} | {"recipe"}
    direct = {name: value for name, value in given.items() if name in known - {"recipe"} and value is not None}
    options = {name: value for name, value in given.items() if name not in known}
    direct["backbone"] = direct.pop(network, None)
    configs = {name: _named(name, direct.pop(name, None), direct, distills=distills) for name in CONFIGS}
    if configs["backbone"] is None and f"{network}_args" in options:
        raise UserError(
            f"{network}_args is about one network, and none is named: name it with {network}=NAME",
            code="network-not-named",
        )
    if recipe is not None:
        timed = direct.get("time") is not None and configs["training"] is None
        configs |= fill(configs, recipe_file(recipe, verb))
        if timed:  # which replaces the epochs of the recipe
            configs["training"] = dataclasses.replace(configs["training"], epochs="auto")
    configs |= _changed(source, configs, options, known, distills=distills, quick=bool(direct.get("quick")))
    hints = get_type_hints(RunRequest)
    module = {"teacher_module": direct.pop("teacher_module", None)}
    plain = {name: convert(hints[name], _plain(value), name) for name, value in direct.items()}
    chosen = {name: value for name, value in (module | configs).items() if value is not None}
    modality = choose_modality(source, configs["backbone"], configs["method"])
    request = RunRequest(source=source, **plain, **({"training": default_training(modality.name)} | chosen))
    if distills and request.teacher is None:
        raise UserError("a distillation needs a teacher: teacher=NAME, a timm model or a folder", code="no-teacher")
    if recipe is None or request.time is not None or request.training.epochs != "auto":
        return request
    return dataclasses.replace(request, time=find_recipe(recipe).time)


def _changed(
    source: Source,
    configs: Mapping[str, Any],
    options: dict[str, Any],
    known: Iterable[str],
    *,
    distills: bool,
    quick: bool,
) -> dict[str, Any]:
    """Return the configurations that `options` change."""
    host = options.pop("method_host", None)
    accelerator = str(options.get("accelerator") or "")
    found = _defaults(source, configs, distills=distills, host=host, quick=quick, accelerator=accelerator)
    places = dict(_places(found, "student" if distills else "backbone"))
    changed = {"method"} if host is not None else set()
    for name, value in options.items():
        if name not in places:
            raise _unknown(name, [*known, *places])
        section, path = places[name]
        found[section] = _with_option(found[section], path, value, name)
        changed.add(section)
    return {section: found[section] for section in changed}


def _named(section: str, value: Any, direct: Mapping[str, Any], *, distills: bool) -> Any:
    """Return the configuration that a name stands for; a configuration, or None, as it is."""
    if section == "teacher" and isinstance(value, str | os.PathLike):
        return TeacherConfig(name=os.fspath(value))
    if section == "start" and isinstance(value, str | os.PathLike):
        return StartConfig(name=os.fspath(value))
    if value is None or dataclasses.is_dataclass(value):
        return value
    if not isinstance(value, str) or section == "training":
        keyword = "student" if distills and section == "backbone" else section
        names = "" if section == "training" else "a name or "
        raise UserError(f"{keyword} is {value!r}: give {names}a configuration", code="wrong-type")
    if section == "method":
        return (distill_config if distills else method_config)(value)()
    if section == "backbone":
        return default_config(value)
    network = direct.get("backbone")
    named = network if isinstance(network, str) else getattr(network, "name", "")
    usual = default_optim(named, direct.get("teacher") is not None, direct.get("start") is not None)
    return _with_option(usual, ("name",), value, "optim")


def _defaults(
    source: Source, configs: Mapping[str, Any], *, distills: bool, host: Any, quick: bool, accelerator: str
) -> dict[str, Any]:
    """Return the configurations that options override: those given, and the defaults of the others."""
    modality = choose_modality(source, configs["backbone"], configs["method"])
    training = configs["training"] or default_training(modality.name)
    small = runs_small(accelerator or training.accelerator, quick)
    if distills:
        usual = modality.small_student().value if small else modality.default_student()
    else:
        usual = modality.small_encoder().value if small else modality.default_encoder()
    start, teacher = configs["start"], configs["teacher"]
    backbone = configs["backbone"] or (modality.start_encoder(start) if start else usual)
    method = configs["method"] or default_method(teacher.name if teacher else "", modality.name)
    return {
        "training": training,
        "method": method if host is None else _with_host(method, host),
        "backbone": backbone,
        "optim": configs["optim"] or default_optim(backbone.name, teacher is not None, start is not None),
        "teacher": teacher,
        "start": start,
    }


def _with_host(method: MethodConfig, host: Any) -> MethodConfig:
    if not hasattr(method, "host"):
        raise UserError(f"method '{method.name}' is not built on a host: leave method_host out", code="no-host")
    chosen = HostConfig.choose(host)() if isinstance(host, str) else host
    if not isinstance(chosen, HostConfig):
        raise UserError(f"method_host is {host!r}: give a name or a configuration", code="wrong-type")
    changed: Any = method
    return dataclasses.replace(changed, host=chosen)


def _places(configs: Mapping[str, Any], network: str) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    """Yield every keyword with its section and the path of its field."""
    for section, config in configs.items():
        prefix = {"training": "", "backbone": f"{network}_"}.get(section, f"{section}_")
        for path in () if config is None else _paths(config):
            if path != ("name",):
                yield prefix + "_".join(path), (section, path)


def _paths(config: Any) -> Iterator[tuple[str, ...]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, NamedConfig):
            yield from ((field.name, *path) for path in _paths(value))
        elif not field.metadata.get("internal"):
            yield (field.name,)


def _with_option(config: Any, path: tuple[str, ...], value: Any, keyword: str) -> Any:
    name, *rest = path
    if rest:
        return dataclasses.replace(config, **{name: _with_option(getattr(config, name), tuple(rest), value, keyword)})
    hint = get_type_hints(type(config))[name]
    return dataclasses.replace(config, **{name: convert(hint, _plain(value), keyword)})


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON has not, such as a tensor, as it is, to be refused."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return to_json(value) if isinstance(value, tuple | list | Mapping) else value


def with_options(config: T, options: Mapping[str, Any], *, known: Iterable[str] = ()) -> T:
    """Return a configuration with the fields in `options` set; a suggestion for an unknown one may be in `known`."""
    for name, value in options.items():
        if name not in (names := {path[0] for path in _paths(config)}):
            raise _unknown(name, [*known, *names])
        config = _with_option(config, (name,), value, name)
    return config


def names(value: Any, keyword: str) -> list[str]:
    """Return the names of several runs or networks, of which a single one need not be in a list."""
    several = [value] if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable) else list(value)
    for name in several:
        if not isinstance(name, str | os.PathLike):
            raise UserError(f"{keyword} has {name!r}: give names or folders", code="wrong-type")
    return [os.fspath(name) for name in several]


def _unknown(name: str, known: Iterable[str]) -> UserError:
    """Return the error for a keyword, with the known one that was meant: `lr` is the last part of `optim_lr`."""
    sections = (*SECTIONS, "student")
    dotted = {_dotted(keyword, sections): keyword for keyword in known}
    found = [dotted[option] for option in suggest(name, dotted)]
    hint = meaning(found) or ": options are the flags of the command line with underscores, such as optim_lr"
    return UserError(f"there is no option '{name}'{hint}", code="unknown-option")


def _dotted(keyword: str, sections: Iterable[str]) -> str:
    section, _, rest = keyword.partition("_")
    return f"{section}.{rest}" if rest and section in sections else keyword
