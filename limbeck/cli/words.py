"""Check the words of a command line before they are parsed: one sentence names the option, its value, what it takes."""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from limbeck.cli.command import UsageError
from limbeck.cli.flags import Flag
from limbeck.core.errors import did_you_mean
from limbeck.series.recognize import is_series

_NUMBER = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
_EXAMPLES = {"INT": "a whole number", "FLOAT": "a number", "JSON": """a JSON object such as '{"depth": 6}'"""}


class Given(NamedTuple):
    """An option of a command line with the words after it."""

    flag: Flag
    values: tuple[str, ...]
    most: int | None
    """Number of values that it takes; None for any number."""


def check_words(argv: Sequence[str], flags: Sequence[Flag], verb: str) -> None:
    """Raise UsageError for the first value that an option cannot have, and for words too many or too few."""
    if any(word.startswith("--tyro-") for word in argv):
        return
    places, given = _sort(argv, flags)
    for option in given:
        _check_values(option, verb)
    _check_places(places, [flag for flag in flags if flag.positional], given, verb)
    names = {option.flag.name for option in given}
    for flag in flags:
        if flag.required and not flag.positional and flag.name not in names:
            raise UsageError(f"`limbeck {verb}` needs {flag.name} {flag.metavar}: {_clause(flag)}", code="no-value")


def _sort(argv: Sequence[str], flags: Sequence[Flag]) -> tuple[list[str], list[Given]]:
    """Return the words that belong to no option, and the options with their values."""
    known = {spelling.replace("_", "-"): flag for flag in flags for spelling in flag.spellings}
    places, given, words = list[str](), list[Given](), list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        flag = known.get(name.replace("_", "-"))
        if flag is None or not is_option(word):
            places.append(word)
            continue
        most = _count(flag.metavar)
        values = [value] if equals else []
        while not equals and words and not is_option(words[0]) and (most is None or len(values) < most):
            values.append(words.pop(0))
            if flag.optional and values == ["None"]:
                break
        given.append(Given(flag, tuple(values), most))
    return places, given


def is_option(word: str) -> bool:
    """Return whether a word is the name of an option: negative numbers and a single hyphen are none."""
    return word.startswith("-") and len(word) > 1 and not _NUMBER.match(word)


def _count(metavar: str) -> int | None:
    return None if metavar.endswith("...") else len(metavar.split())


def _check_values(option: Given, verb: str) -> None:
    flag, values = option.flag, option.values
    if not flag.metavar and values:
        raise UsageError(f"{flag.name} takes no value, such as '{values[0]}': leave it out", code="wrong-value")
    if flag.optional and values == ("None",):
        return
    if option.most is not None and len(values) < option.most:
        found = f", not {' '.join(values)}" if values else ""
        raise UsageError(f"{flag.name} needs {_allowed(flag.metavar)}{found}: {_clause(flag)}", code="no-value")
    kind = flag.metavar.removesuffix(" ...").split(" ")[0]
    for value in values:
        if not any(fits(value) for fits in _kinds(kind)):
            meant = did_you_mean(value, _choices(kind))
            allowed = _allowed(kind, or_none=flag.optional and not flag.default)
            raise UsageError(
                f"{flag.name} is '{value}'{meant}: it must be {allowed}; `limbeck {verb} --help-all` explains it",
                code="wrong-value",
            )


def _check_places(words: Sequence[str], places: Sequence[Flag], given: Sequence[Given], verb: str) -> None:
    """Raise UsageError unless there are as many words without an option as the command has places for."""
    several = any("..." in place.name for place in places)
    required = [place for place in places if place.required]
    if len(words) > len(places) and not several:
        extra = words[len(places)]
        reason = _several_sources(words, places) or f"'{extra}' is one word too many: quote names with spaces"
        raise UsageError(f"{reason}, and see `limbeck {verb} --help`", code="unexpected-word")
    for word, place in zip(words, places, strict=False):
        if not word:
            raise UsageError(f"{place.name} is empty, as an unset variable is: {_clause(place)}", code="wrong-value")
        if (choices := _choices(place.name)) and word not in choices:
            meant = did_you_mean(word, choices)
            raise UsageError(f"'{word}' is not {_allowed(place.name)}{meant}", code="wrong-value")
    if len(words) >= len(required):
        return
    missing = required[len(words)]
    greedy = [option.flag.name for option in given if option.most is None and option.values]
    order = f"; {greedy[-1]} takes all words after it, so type it last" if greedy else ""
    raise UsageError(f"`limbeck {verb}` needs {missing.name}: {_clause(missing)}{order}", code="no-value")


def _several_sources(words: Sequence[str], places: Sequence[Flag]) -> str:
    """Return how to give the sources among too many words as one; empty unless the second one is there."""
    first = next((number for number, place in enumerate(places) if place.name == "SOURCE"), len(words))
    sources = words[first : first + len(words) - len(places) + 1]
    if len(sources) < 2 or not all(map(os.path.exists, sources[:2])):
        return ""
    found = f"'{sources[0]}' and '{sources[1]}' are two sources, and one is taken"
    if all(map(os.path.isdir, sources)):
        linked = shlex.join(map(os.path.realpath, sources))
        return f"{found}: put links to them into a folder and give that (`mkdir all && ln -s {linked} all/`)"
    if is_series(sources[0]):
        return f"{found}: of series only a folder of .csv files joins several"
    return f"{found}: quote a pattern that names several files, such as 'shards/*.tar'"


def _kinds(kind: str) -> Iterator[Callable[[str], bool]]:
    """Yield a test of a word for each alternative of a type."""
    for name in re.findall(r"\{[^}]*\}|[^|]+", kind):
        if name.startswith("{"):
            yield name.strip("{}").split(",").__contains__
        else:
            yield {"INT": _is_int, "FLOAT": _is_float, "JSON": _is_json_object}.get(name, lambda word: True)


def _choices(kind: str) -> list[str]:
    return [name for group in re.findall(r"\{([^}]*)\}", kind) for name in group.split(",")]


def _allowed(metavar: str, *, or_none: bool = False) -> str:
    """Return the accepted values, in words."""
    counts = metavar.split(" ")
    if len(counts) > 1 and counts[-1] != "...":
        return f"{len(counts)} values ({metavar})"
    others = filter(None, re.sub(r"\{[^}]*\}", "", counts[0]).split("|"))
    parts = [*_choices(counts[0]), *(_EXAMPLES.get(name, name) for name in others), *(["None"] if or_none else [])]
    return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else parts[0]


def _clause(flag: Flag) -> str:
    text = flag.help.partition(". ")[0].removesuffix(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _is_int(word: str) -> bool:
    return _parses(int, word)


def _is_float(word: str) -> bool:
    return _parses(float, word)


def _is_json_object(word: str) -> bool:
    return _parses(json.loads, word) and isinstance(json.loads(word), dict)


def _parses(read: Callable[[str], object], word: str) -> bool:
    try:
        read(word)
    except (ValueError, RecursionError):
        return False
    return True
