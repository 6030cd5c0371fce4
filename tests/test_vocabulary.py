"""One vocabulary, defined in docs/glossary.md: names and pages do not use the words that it replaces."""

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from limbeck.core.run_folder import CONFIG, METRICS
from limbeck.methods import method_config, method_names

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "limbeck").rglob("*.py"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

FORBIDDEN_PARTS = {
    "alike": "similar",
    "anew": "again",
    "attend": "build",
    "beside": "with",
    "enrol": "prepare",
    "judge": "check, evaluate",
    "kept": "train, stored, cached",
    "lesson": "distillation inputs",
    "look": "image function, view",
    "mate": "partner",
    "mates": "partner_indices",
    "mine": "query, local",
    "pupil": "student",
    "replay": "cached views",
    "say": "logger",
    "scratch": "baseline",
    "settle": "resolve",
    "taught": "teacher output",
    "tell": "report",
    "theirs": "candidate",
    "twins": "near-duplicates",
    "visits": "sampling plan",
    "wishes": "run request",
}
"""Part of a name between underscores or capitals -> what to use in its place."""

BRITISH = re.compile(
    r"(?:grey|colour|centre|centring|licence|neighbour|favour|behaviour|labelled|modell"
    r"|(?:normal|optim|solar|initial|minim|maxim|synchron|general|standard|organ|summar|serial|quant|regular)is(?:e|ing|ation))"
)
"""British spellings in lower case; names, flags and keys are American."""

FORBIDDEN_TERMS = {
    r"slow cop(?:y|ies)": "EMA encoder",
    r"slow (?:network|teacher)": "EMA encoder",
    r"moving average of (?:itself|yourself)": "EMA encoder",
    r"pupils?": "student",
    r"(?<!Barlow )twins?": "near-duplicate",
    r"(?:bag|class)[ -]?mates?|mates?": "partner; image of the same class",
    r"teacher's momentum": "momentum of the EMA encoder",
    r"anew": "again",
    r"reckon(?:ed|s)?": "computed",
    r"in whose company": "with",
    r"small crops": "local crops",
    r"whom": "which images",
    r"which .*is mine": "which key belongs to the query",
    r"replay(?:ed|s)?": "cached view",
    r"slow(?:ly)? moving": "EMA",
}
"""Term in the prose of a page, as a pattern -> what the glossary has in its place."""

HISTORY = {"docs/log.md"}
"""Pages whose entries are records and are not rewritten."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parts(name: str) -> list[str]:
    """Return the lower-case words of a name: 'dense_weight' and 'DenseWeight' -> dense, weight."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def faults(name: str) -> Iterator[str]:
    """Yield what is wrong with a name, and its replacement."""
    yield from (f"{name}: {part} -> {FORBIDDEN_PARTS[part]}" for part in parts(name) if part in FORBIDDEN_PARTS)
    if british := BRITISH.search(name.lower()):
        yield f"{name}: {british.group()} -> American spelling"


def names_defined(path: Path) -> set[str]:
    """Return the names that a module defines, assigns or takes as parameters."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
    return found | {path.stem}


def keys(value: Any) -> Iterator[str]:
    """Yield every key of nested JSON values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)


def test_names_in_the_package() -> None:
    offenders = {
        f"{name_of(path)}: {fault}" for path in PACKAGE for name in names_defined(path) for fault in faults(name)
    }
    assert not sorted(offenders)


def test_options_of_methods() -> None:
    """An option is a flag and a key of config.json."""
    options = {f"{name}.{f.name}" for name in method_names() for f in dataclasses.fields(method_config(name))}
    assert not [fault for option in sorted(options) for fault in faults(option)]


def test_files_of_a_run(trained: Path) -> None:
    """The keys of config.json and the columns of metrics.csv."""
    config = json.loads((trained / CONFIG).read_text(encoding="utf-8"))
    columns = (trained / METRICS).read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert not [fault for name in sorted({*keys(config), *columns}) for fault in faults(name)]


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line of a page that is no code."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced:
            yield number, re.sub(r"`[^`]*`", "", line)


def test_terms_in_the_documentation() -> None:
    patterns = {re.compile(rf"\b(?:{term})\b", re.IGNORECASE): use for term, use in FORBIDDEN_TERMS.items()}
    assert not [
        f"{name_of(page)}:{number}: {found.group()} -> {use}"
        for page in PAGES
        if name_of(page) not in HISTORY
        for number, line in prose(page)
        for pattern, use in patterns.items()
        for found in pattern.finditer(line)
    ]
