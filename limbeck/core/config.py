"""Configurations are frozen dataclasses; a run writes the JSON that recreates it, and unknown keys are errors."""

import dataclasses
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from limbeck.core.errors import UserError, did_you_mean

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
T = TypeVar("T")


class NamedConfig(ABC):
    """A dataclass that is one of several, told apart in JSON by the key `name`."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def choose(cls, name: str) -> type["NamedConfig"]:
        """The dataclass of that name; raises UserError with the nearest name."""


def to_json(value: Any) -> Json:
    """Dataclasses, tuples and paths as plain JSON values."""
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


def from_json(kind: type[T], data: Json, where: str = "config") -> T:
    """The dataclass `kind` that `to_json` wrote; UserError on unknown keys, missing keys and values of another type."""
    if not isinstance(data, dict):
        raise UserError(f"{where} must be an object with keys, not {data!r}")
    data = dict(data)
    if issubclass(kind, NamedConfig):
        kind = typing.cast(type[T], kind.choose(str(data.pop("name", None))))
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    for key in data:
        if key not in fields:
            raise UserError(f"{where} has an unknown key '{key}'{did_you_mean(key, fields)}")
    for key, f in fields.items():
        if key not in data and f.default is f.default_factory is dataclasses.MISSING:
            raise UserError(f"{where} lacks the key '{key}'")
    return kind(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()})


def _convert(hint: Any, value: Json, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(args, value, where)
    if dataclasses.is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, NamedConfig)):
        return from_json(typing.cast(type[Any], hint), value, where)
    if origin is tuple and isinstance(value, list):
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) == len(value):
            return tuple(_convert(a, v, where) for a, v in zip(inner, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return value
    if origin is typing.Literal and value in args:
        return value
    if hint is float and type(value) in (int, float) and abs(typing.cast(float, value)) < 1e300:
        return float(typing.cast(float, value))
    if hint is typing.Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise UserError(f"{where} is {value!r}, which is not {_describe(hint)}")


def _first_that_fits(options: tuple[Any, ...], value: Json, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    remaining = [o for o in options if o is not type(None)]
    for option in remaining[:-1]:
        try:
            return _convert(option, value, where)
        except UserError:
            continue
    return _convert(remaining[-1], value, where)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return f"of type {getattr(hint, '__name__', str(hint))}"
