"""Words of a command: how they become typed arguments, and where answers go."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

T = TypeVar("T")
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Out = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


def parse(kind: type[T], argv: Sequence[str], verb: str) -> T:
    """The dataclass `kind` from the words after a verb; exits with help or with what is wrong."""
    return tyro.cli(kind, args=list(argv), prog=f"limbeck {verb}", registry=_json_arguments())


def take_names(argv: Sequence[str], flags: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Splits `--flag NAME` and `--flag=NAME` from the rest: these names decide which options there are."""
    found: dict[str, str] = {}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in flags:
            found[flag] = value if equals else next(words, "")
        else:
            rest.append(word)
    return found, rest


def print_once(result: Path) -> None:
    """The result of a command that several processes may run."""
    from limbeck.core.rank import is_rank0

    if is_rank0():
        print(result)


def tell(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr)


def _json_arguments() -> tyro.constructors.ConstructorRegistry:
    """Teaches tyro to read a dictionary as one JSON object."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def json_object(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        if info.type_origin is not dict:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="JSON",
            instance_from_str=lambda words: _json_object(words[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [json.dumps(value)],
        )

    return registry


def _json_object(word: str) -> dict[str, Any]:
    value = json.loads(word)
    if not isinstance(value, dict):
        raise ValueError(f"{word} is not a JSON object")
    return value
