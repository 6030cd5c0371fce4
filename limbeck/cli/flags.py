"""The flags of a command as a list: their names, types, defaults and descriptions, in the order of the dataclass."""

import ast
import dataclasses
import inspect
import itertools
import json
import sys
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro

from limbeck.cli.arguments import FLATTENED

_WORDS = {int: "INT", float: "FLOAT", str: "TEXT", dict: "JSON"}


class Flag(NamedTuple):
    """One flag, or one positional argument."""

    name: str
    """Such as `--optim.lr`; of a positional argument its name in capitals, such as `SOURCE`."""
    aliases: tuple[str, ...]
    """Short names, such as `-q`."""
    metavar: str
    """Placeholder of its value in the help; empty for a switch."""
    default: str
    """The default as it is typed; empty where that is nothing, or the flag is required."""
    help: str
    negated: str = ""
    """The other form of a switch that has one, such as `--no-compile` of `--compile`."""
    required: bool = False
    """Whether it has no default."""
    optional: bool = False
    """Whether `None` may be written."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Everything that may be typed for it."""
        return tuple(filter(None, (self.name, self.negated, *self.aliases)))

    @property
    def positional(self) -> bool:
        """Whether it has no name on the command line."""
        return not self.name.startswith("-")

    @property
    def group(self) -> str:
        """The configuration that it belongs to: `optim` of `--optim` and `--optim.lr`, empty for the command's own."""
        return "" if self.positional else self.name.removeprefix("--").rpartition(".")[0]


def list_flags(kind: type[Any]) -> list[Flag]:
    """Return the flags that tyro makes of the dataclass `kind`, with the rules of `cli.arguments`."""
    return list(_walk(kind, None, ""))


def _walk(kind: type[Any], value: Any, prefix: str) -> Iterator[Flag]:
    hints, help_texts = get_type_hints(kind, include_extras=True), field_docs(kind)
    for field in dataclasses.fields(kind):
        if field.metadata.get("internal"):
            continue
        hint, markers = _unwrap(hints[field.name])
        default = _default(field) if value is None else getattr(value, field.name)
        setting = next((m for m in reversed(markers) if hasattr(m, "metavar") and hasattr(m, "aliases")), None)
        name = field.name if setting is None or setting.name is None else setting.name
        if dataclasses.is_dataclass(nested := type(default) if dataclasses.is_dataclass(default) else hint):
            inner = prefix if setting is FLATTENED or setting == FLATTENED else f"{prefix}{name}."
            yield from _walk(nested if isinstance(nested, type) else type(nested), _instance(default), inner)
            continue
        spelled = prefix.removesuffix(".") if field.name == "name" and prefix else prefix + name
        spelled = name if field.metadata.get("plain_flag") else spelled
        yield _flag(spelled.replace("_", "-"), hint, markers, setting, default, help_texts.get(field.name, ""))


def _flag(spelled: str, hint: Any, markers: tuple[Any, ...], setting: Any, default: Any, help_text: str) -> Flag:
    switch = hint is bool
    metavar = (
        "" if switch else (setting.metavar.removesuffix("|None") if setting and setting.metavar else _metavar(hint))
    )
    required = default is dataclasses.MISSING
    optional = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    if tyro.conf.Positional in markers:
        return Flag(metavar or spelled.upper(), (), "", _typed(default), help_text, required=required)
    aliases = tuple(setting.aliases or ()) if setting else ()
    if not switch or tyro.conf.FlagCreatePairsOff in markers:
        typed = "" if switch else _typed(default)
        return Flag(f"--{spelled}", aliases, metavar, typed, help_text, required=required, optional=optional)
    start, dot, last = spelled.rpartition(".")
    forms = (f"--{spelled}", f"--{start}{dot}no-{last}")
    if default is True:
        return Flag(forms[1], aliases, "", "", f"Do not {help_text[:1].lower()}{help_text[1:]}", forms[0])
    return Flag(forms[0], aliases, "", "", help_text, forms[1])


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its annotations, and these from the inner to the outer."""
    if get_origin(hint) is Annotated:
        inner, *markers = get_args(hint)
        found, more = _unwrap(inner)
        return found, (*more, *markers)
    return hint, ()


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _instance(default: Any) -> Any:
    return None if default is dataclasses.MISSING else default


def _metavar(hint: Any) -> str:
    """Return the placeholder of a type: `INT`, `{cpu,cuda}`, `FLOAT FLOAT`, `TEXT ...`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return "|".join(_metavar(option) for option in args if option is not type(None))
    if origin is Literal:
        return "{" + ",".join(map(str, args)) + "}"
    if origin is tuple:
        return f"{_metavar(args[0])} ..." if args[-1] is Ellipsis else " ".join(map(_metavar, args))
    return _WORDS.get(origin or hint, "{True,False}" if hint is bool else "VALUE")


def _typed(value: Any) -> str:
    if value is None or value is dataclasses.MISSING or value in ("", (), {}):
        return ""
    if isinstance(value, tuple):
        return " ".join(map(_typed, value))
    return json.dumps(value) if isinstance(value, dict) else f"{value:g}" if isinstance(value, float) else str(value)


def field_docs(kind: type[Any]) -> dict[str, str]:
    """Return the string below each field of a dataclass, those of its bases included, in one line."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            docs |= _own_docs(base)
    return docs


@cache
def _own_docs(kind: type[Any]) -> dict[str, str]:
    found = _classes_of(sys.modules.get(kind.__module__)).get(kind.__qualname__)
    if found is None:  # made without a source, as by `make_dataclass`
        return {}
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(found.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
        if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


@cache
def _classes_of(module: types.ModuleType | None) -> dict[str, ast.ClassDef]:
    """Return the classes of a module by their qualified names, none where it has no source.

    `inspect` would read the whole module again for every class.
    """
    try:
        return {} if module is None else dict(_classes(ast.parse(inspect.getsource(module)), ""))
    except (OSError, TypeError, SyntaxError):
        return {}


def _classes(parent: ast.AST, path: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(parent):
        if isinstance(child, ast.ClassDef):
            yield path + child.name, child
            yield from _classes(child, f"{path}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _classes(child, f"{path}{child.name}.<locals>.")
        elif isinstance(child, ast.stmt):
            yield from _classes(child, path)
