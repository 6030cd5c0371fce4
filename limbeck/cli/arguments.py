"""Typed arguments of a command: frozen dataclasses whose fields are the flags, read by tyro."""

import dataclasses
import io
import json
import types
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
    UnsupportedTypeAnnotationError,
)

from limbeck.cli.command import UsageError
from limbeck.core.errors import UserError

T = TypeVar("T")
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""A flag without a `--no-` form."""
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Out = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
FLATTENED = tyro.conf.arg(name="")
"""On a nested configuration: its flags have no prefix. On a field of one: the prefix alone is the flag."""
_NOT_BOTH = tyro.conf.create_mutex_group(required=False, title="messages")


@dataclass(frozen=True, kw_only=True)
class OutputArgs:
    """Options that every command has."""

    json: Flag = False
    """Print the result, or the error, as one JSON object on stdout."""
    help_all: Flag = False
    """Explain every option; --help explains the usual ones."""
    quiet: Annotated[Flag, _NOT_BOTH, tyro.conf.arg(aliases=("-q",))] = False
    """Print the result, warnings and errors only."""
    verbose: Annotated[Flag, _NOT_BOTH, tyro.conf.arg(aliases=("-v",))] = False
    """Print details as well, the code of an error, and the traceback of an unexpected one."""


class Parsed(NamedTuple):
    """The arguments of one command and the options that all commands share."""

    args: Any
    output: OutputArgs


def parse(command: type[Any], argv: Sequence[str], verb: str) -> Parsed:
    """Read `argv`, which has the words of a command, into a dataclass of `with_output`.

    Raises:
        UsageError: a value is refused by the configuration that it belongs to, or by tyro.
    """
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            parsed = tyro.cli(command, args=list(argv), prog=f"limbeck {verb}", registry=tyro_rules())
    except SystemExit as stop:
        if not stop.code:
            print(printed.getvalue(), end="")
            raise
        if refused := _refused(stop):
            raise UsageError(_with_flags(str(refused), argv), code=refused.code) from refused
        lines = [line.strip(" \u2500\u2502\u256d\u256e\u2570\u256f") for line in printed.getvalue().splitlines()]
        raise UsageError(f"{' '.join(filter(None, lines[1:])):.300}", code="wrong-command-line") from stop
    except UserError as error:
        raise UsageError(_with_flags(str(error), argv), code=error.code) from error
    return Parsed(parsed.args, parsed.output)


def _refused(stop: BaseException) -> UserError | None:
    """Return the error of a configuration during which tyro stopped, if there was one: tyro prints it in a box."""
    cause = stop.__context__
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__context__
    return cause


def _with_flags(message: str, argv: Sequence[str]) -> str:
    """Return a message that begins with the name of a field, with the option in `argv` that sets this field instead."""
    field = message.partition(" ")[0]
    options = [word.partition("=")[0] for word in argv if word.startswith("--")]
    named = [option for option in options if option.rpartition(".")[2].lstrip("-").replace("-", "_") == field]
    return named[-1] + message.removeprefix(field) if named else message


def with_output(kind: type[Any]) -> type[Any]:
    """Return a dataclass with the fields of `kind` and of `OutputArgs` as flags without a prefix."""
    fields = [("args", annotated(kind, FLATTENED)), ("output", annotated(OutputArgs, FLATTENED))]
    return dataclasses.make_dataclass("Command", fields, frozen=True, kw_only=True)


def annotated(kind: Any, *metadata: Any) -> Any:
    """Return `Annotated[kind, *metadata]` for a type that is known at run time only."""
    return Annotated[(kind, *metadata)]


def output_words() -> set[str]:
    """Return the words that `OutputArgs` reads."""
    return {"--json", "--quiet", "-q", "--verbose", "-v"}


def peek(argv: Sequence[str], flag: str) -> str | None:
    """Return the last value of `flag VALUE` or `flag=VALUE` in `argv`, without parsing anything else.

    Names of methods and networks, and of the configuration file, decide which other flags there are.
    """
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=False):
        name, equals, value = word.partition("=")
        if name == flag:
            found = value if equals else following
    return found


def has_flag(argv: Sequence[str], *flags: str) -> bool:
    """Return whether one of the flags is in `argv`."""
    return not set(flags).isdisjoint(argv)


def tyro_rules() -> ConstructorRegistry:
    """Return the rules by which types become flags, where they differ from tyro's own."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_json_object)
    registry.primitive_rule(_optional)
    registry.struct_rule(_NestedConfig())
    return registry


def _json_object(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
    """Read a dictionary as one JSON object."""
    if info.type_origin is not dict:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: _parse_json_object(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _parse_json_object(word: str) -> dict[str, Any]:
    value = json.loads(word)
    if not isinstance(value, dict):
        raise ValueError(f"{word} is not a JSON object")
    return value


def _optional(
    info: PrimitiveTypeInfo,
) -> PrimitiveConstructorSpec[Any] | UnsupportedTypeAnnotationError | None:
    """Show `int | None` as `INT|None`; tyro's own form is `{None}|INT`."""
    options = get_args(info.type)
    if info.type_origin not in (Union, types.UnionType) or type(None) not in options:
        return None
    some: Any = reduce(or_, (option for option in options if option is not type(None)))
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(some, info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return spec
    return dataclasses.replace(
        spec,
        nargs=(1, spec.nargs) if isinstance(spec.nargs, int) and spec.nargs > 1 else spec.nargs,
        metavar=f"{spec.metavar}|None",
        choices=None if spec.choices is None else (*spec.choices, "None"),
        instance_from_str=lambda words: None if words == ["None"] else spec.instance_from_str(words),
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
    )


class _NestedConfig:
    """Make the field `name` of a nested configuration its flag (`--backbone NAME`), and hide internal fields.

    Internal fields are filled in by a run and have `internal` in their metadata. Those with `plain_flag` are flags
    without the name of their configuration.
    """

    def __init__(self) -> None:
        self._entered: set[Any] = set()

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        """Change what tyro's own rule returns; inside the call to that rule this one does not apply."""
        if not dataclasses.is_dataclass(info.type) or info.type in self._entered:
            return None
        self._entered.add(info.type)
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._entered.remove(info.type)
        if not isinstance(spec, StructConstructorSpec):
            return None
        internal = {f.name for f in dataclasses.fields(info.type) if f.metadata.get("internal")}
        plain = {f.name for f in dataclasses.fields(info.type) if f.metadata.get("plain_flag")}
        fields = tuple(self._field(field, internal, plain) for field in spec.fields)
        return dataclasses.replace(spec, fields=fields)

    @staticmethod
    def _field(field: StructFieldSpec, internal: set[str], plain: set[str]) -> StructFieldSpec:
        """Return a field without a text of help: `cli.help` prints it, and tyro would tokenize every source for it."""
        if field.name == "name":
            return dataclasses.replace(field, helptext="", type=annotated(field.type, FLATTENED))
        if field.name in internal:
            return dataclasses.replace(field, helptext="", type=annotated(field.type, tyro.conf.Suppress))
        if field.name in plain:
            alone = tyro.conf.arg(prefix_name=False)
            return dataclasses.replace(field, helptext="", type=annotated(field.type, alone))
        return dataclasses.replace(field, helptext="")
