"""Remove the folders of this machine from a page: show paths below the current folder, or else names."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from limbeck.core.config import Json, to_json
from limbeck.core.portable_paths import portable_path, without_absolute_paths
from limbeck.evaluation.results import EvaluationResult, ModelScores
from limbeck.runs.config import RunConfig


def portable_config(config: RunConfig) -> Json:
    """Return the configuration of a run as JSON."""
    return without_absolute_paths(to_json(config), Path.cwd())


def portable_command(command: str) -> str:
    """Return a command line; what follows an equals sign may be a path as well."""
    words = (word.partition("=") if word.startswith("--") else ("", "", word) for word in shlex.split(command))
    return shlex.join(f"{flag}{equals}{portable_path(value, Path.cwd())}" for flag, equals, value in words)


def portable_folder(folder: Path) -> str:
    """Return a folder as a word of a command."""
    return portable_path(str(folder), Path.cwd())


def portable_text(text: str, *sources: Json) -> str:
    """Return a sentence in which paths that are strings of `sources` are replaced."""
    for path in sorted({*_strings(list(sources))}, key=len, reverse=True):
        shown = portable_path(path, Path.cwd())
        text = text.replace(path, shown) if shown else text
    return text


def portable_result(result: EvaluationResult, config: RunConfig) -> EvaluationResult:
    """Return an evaluation whose sentences, names of networks and command may be shown; images keep their places."""
    sources: list[Json] = [to_json(config), *shlex.split(result.command)]

    def named(model: ModelScores) -> ModelScores:
        return replace(model, name=portable_text(model.name, *sources))

    found = result.comparison
    return replace(
        result,
        command=portable_command(result.command),
        verdict=portable_text(result.verdict, *sources),
        references=tuple(map(named, result.references)),
        comparison=found and replace(found, teacher=named(found.teacher), students=tuple(map(named, found.students))),
    )


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value
