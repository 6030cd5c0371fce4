"""Configurations are frozen dataclasses, read from JSON or YAML; an unknown key is an error with the nearest name."""

import dataclasses
import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml

from limbeck.core.disk import not_readable
from limbeck.core.errors import UserError, did_you_mean, one_line
from limbeck.core.files import read_json

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
T = TypeVar("T")
LARGEST = 1e300  # JSON readers make infinity of a larger number, such as 1e999


class NamedConfig(ABC):
    """A dataclass that is one of several; in JSON the key `name` is the kind."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def choose(cls, name: str) -> type["NamedConfig"]:
        """Return the dataclass of that name; raise UserError with the nearest name."""


class EncoderConfig(Protocol):
    """The part of an encoder's configuration that other parts read."""

    @property
    def name(self) -> str:
        """Name of the architecture, for messages."""


def to_json(value: Any) -> Json:
    """Return dataclasses, tuples and paths as plain JSON values."""
    if dataclasses.is_dataclass(value):
        named: dict[str, Json] = {"name": value.name} if isinstance(value, NamedConfig) else {}
        return named | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def from_file(kind: type[T], path: Path) -> T:
    """Return the dataclass `kind` that a JSON or YAML file describes; see `from_json`."""
    return from_json(kind, read_mapping(path), path.name)


def read_mapping(path: Path) -> dict[str, Json]:
    """Return the keys and values of a JSON file (suffix .json) or a YAML file (.yaml or .yml).

    Raises:
        UserError: the suffix is another one, the file cannot be read, or it holds no mapping.
    """
    suffix = path.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise UserError(
            f"'{path}' is not a configuration file: its name must end in .json, .yaml or .yml", code="unknown-file-type"
        )
    found = read_json(path) if suffix == ".json" else _read_yaml(path)
    if not isinstance(found, dict):
        raise UserError(f"'{path}' holds no keys, only {found!r:.60}: write `key: value` lines", code="not-a-mapping")
    return found


def from_json(kind: type[T], data: Json, where: str = "config", kinds: Mapping[str, Any] | None = None) -> T:
    """Return the dataclass `kind` that `to_json` wrote; UserError for a wrong key, a missing key or a wrong type.

    `kinds` are the types of those fields whose annotations do not determine them.
    """
    if not isinstance(data, dict):
        raise UserError(f"{where} must be an object with keys, not {data!r}", code="not-a-mapping")
    data = dict(data)
    if issubclass(kind, NamedConfig):
        kind = typing.cast(type[T], kind.choose(str(data.pop("name", None))))
    hints = typing.get_type_hints(kind) | dict(kinds or {})
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    for key in data:
        if key not in fields:
            known = did_you_mean(str(key), fields) or f": the keys are {', '.join(sorted(fields))}"
            raise UserError(f"{where} has an unknown key '{key}'{known}", code="unknown-key")
    for key, f in fields.items():
        if key not in data and f.default is f.default_factory is dataclasses.MISSING:
            raise UserError(f"{where} lacks the key '{key}'", code="missing-key")
    return kind(**{key: convert(hints[key], value, f"{where}.{key}") for key, value in data.items()})


class _Yaml(yaml.SafeLoader):
    """Read `1e-3` as a number, as JSON and YAML 1.2 do; PyYAML follows YAML 1.1, where it is a string."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Yaml)
    except OSError as error:
        raise not_readable(path, error) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"'{path}' is not valid YAML ({one_line(error)})", code="not-yaml") from error


def convert(hint: Any, value: Json, where: str) -> Any:
    """Return a JSON value as an object of the type `hint`; UserError that begins with `where` if it is none."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(args, value, where)
    if dataclasses.is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, NamedConfig)):
        return from_json(typing.cast(type[Any], hint), value, where)
    if origin is tuple and isinstance(value, list):
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) == len(value):
            return tuple(convert(a, v, where) for a, v in zip(inner, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return value
    if origin is typing.Literal and value in args:
        return value
    if hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST:
            return float(value)
    elif hint is str and isinstance(value, str) and "\0" in value:
        raise UserError(f"{where} is {value!r}, which has a null character: remove it", code="wrong-value")
    elif hint is typing.Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise UserError(f"{where} is {value!r}, which is not {_describe(hint)}", code="wrong-type")


def _first_that_fits(options: tuple[Any, ...], value: Json, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    remaining = [o for o in options if o is not type(None)]
    for option in remaining[:-1]:
        try:
            return convert(option, value, where)
        except UserError:
            continue
    return convert(remaining[-1], value, where)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return f"of type {getattr(hint, '__name__', str(hint))}"
