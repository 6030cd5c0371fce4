"""What surrounds the package: metadata agree, YAML files parse, pages are in the navigation, decisions are numbered."""

import fnmatch
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import limbeck

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
YAML = sorted([*ROOT.glob("*.y*ml"), *ROOT.glob(".*.y*ml"), *ROOT.glob("*.cff"), *(ROOT / ".github").rglob("*.y*ml")])
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
NUMBER = r"D-\d{3,}"


class Loader(yaml.SafeLoader):
    """Reads MkDocs' tags, such as `!ENV`, as nothing."""


Loader.add_multi_constructor("", lambda *_: None)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read_yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


@pytest.mark.parametrize("path", YAML, ids=name_of)
def test_yaml_parses(path: Path) -> None:
    assert isinstance(read_yaml(path), dict)


def test_versions_agree() -> None:
    """pyproject.toml reads the version from the package."""
    assert PROJECT["dynamic"] == ["version"]
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == limbeck.__version__
    assert citation["license"] == PROJECT["license"]


def test_extras_that_are_named_exist() -> None:
    """In pages, workflows, the Makefile and the package's own messages."""
    places = [*PAGES, *YAML, ROOT / "Makefile", *(ROOT / "constraints").glob("*"), *(ROOT / "limbeck").rglob("*.py")]
    for path in places:
        for names in re.findall(r"(?:limbeck|['\"]\.)\[([a-z][a-z, -]*)\]", path.read_text(encoding="utf-8")):
            unknown = {name.strip() for name in names.split(",")} - set(EXTRAS)
            assert not unknown, f"{name_of(path)} names {unknown}"


def test_oldest_versions_are_the_lower_bounds() -> None:
    """Those of constraints/oldest.txt are what pyproject.toml promises to users; tools of developers are not pinned."""
    tools = {requirement for name in ("dev", "docs") for requirement in EXTRAS[name]}
    asked = {*PROJECT["dependencies"], *(r for requirements in EXTRAS.values() for r in requirements)} - tools
    asked = {requirement for requirement in asked if not requirement.startswith("limbeck[")}
    bounds = dict(found for requirement in asked for found in re.findall(r"^([\w-]+)>=([\d.]+)", requirement))
    assert len(bounds) == len(asked)
    lines = (ROOT / "constraints" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pinned.keys() == bounds.keys()
    for package, version in pinned.items():
        assert re.sub(r"(\.0)+$", "", version) == re.sub(r"(\.0)+$", "", bounds[package]), package


def test_every_folder_with_code_is_a_package_that_git_keeps() -> None:
    """Wheels leave out a folder without `__init__.py`, and git leaves out what .gitignore matches by accident."""
    folders = {path.parent for path in (ROOT / "limbeck").rglob("*.py")}
    assert not [name_of(folder) for folder in folders if not (folder / "__init__.py").is_file()]
    patterns = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    ignored = {pattern.strip("/") for pattern in patterns if not pattern.startswith("/")}
    assert not {folder.name for folder in folders} & ignored


def test_wheels_have_every_file_of_the_package() -> None:
    """Wheels leave out what is no code, unless pyproject.toml names it."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]
    named = {path for package, names in patterns.items() for name in names for path in folder_of(package).glob(name)}
    others = {path for path in (ROOT / "limbeck").rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert others == named


def folder_of(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))


def navigation(entry: Any) -> Iterator[str]:
    """Every page or pattern in the `nav` of mkdocs.yml."""
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from navigation(inner)


def test_every_page_is_in_the_navigation() -> None:
    patterns = list(navigation(read_yaml(ROOT / "mkdocs.yml")["nav"]))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages |= {"index.md" if path.name == "README.md" else path.name.lower() for path in ROOT.glob("*.md")}
    for page in pages:
        assert any(fnmatch.fnmatch(page, pattern) for pattern in patterns), f"{page} is not in mkdocs.yml"


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.md")), ids=name_of)
def test_templates_name_files_that_exist(path: Path) -> None:
    for name in re.findall(r"\b(?:docs/)?[\w-]+\.md\b", path.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


def test_decisions_are_numbered_and_in_the_index() -> None:
    text = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    entries = re.findall(rf"^### ({NUMBER})$", text, re.M)
    assert entries == [f"D-{number:03}" for number in range(1, len(entries) + 1)]
    dates = {entry: day for day, part in dated(text) for entry in re.findall(rf"^### ({NUMBER})$", part, re.M)}
    index = re.findall(rf"^\| \[({NUMBER})\]\(#(d-\d+)\) \| (\S+) \| .+ \|$", text, re.M)
    assert [(number, anchor) for number, anchor, _ in index] == [(entry, entry.lower()) for entry in entries]
    assert {number: day for number, _, day in index} == dates


def dated(text: str) -> Iterator[tuple[str, str]]:
    """Day and text of every section of the log that is named after a day; days ascend."""
    parts = re.split(r"^## (\d{4}-\d{2}-\d{2})$", text, flags=re.M)[1:]
    assert parts[::2] == sorted(set(parts[::2]))
    return zip(parts[::2], parts[1::2], strict=True)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_decisions_that_are_cited_exist(path: Path) -> None:
    known = set(re.findall(rf"^### ({NUMBER})$", (ROOT / "docs" / "log.md").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(NUMBER, path.read_text(encoding="utf-8"))) <= known
