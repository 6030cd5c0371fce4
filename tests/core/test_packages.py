"""A missing package is named with the command that installs it, before any work starts."""

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import limbeck
from limbeck.core import packages
from limbeck.core.packages import require
from limbeck.exports import export
from tests.helpers.errors import raises

ROOT = Path(__file__).parents[2]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Hide the packages that a test adds to this set."""
    names: set[str] = set()
    find = importlib.util.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in names else find(name))
    return names


def test_what_is_there_is_not_asked_for(missing: set[str]) -> None:
    missing.add("onnx")
    require("export", "torch", "json", purpose="nothing")
    with raises("missing-package", "the format onnx", "onnx", "limbeck[export]"):
        require("export", "torch", "onnx", purpose="the format onnx")


def test_an_export_to_onnx_names_what_it_lacks_and_writes_nothing(missing: set[str], tmp_path: Path) -> None:
    missing.add("onnxscript")
    with raises("missing-package", "onnxscript", "limbeck[export]"):
        export(tmp_path / "run", tmp_path / "out", format="onnx")
    assert not (tmp_path / "out").exists()


def test_a_hub_data_set_names_what_it_lacks(missing: set[str], tmp_path: Path) -> None:
    missing.add("datasets")
    with raises("missing-package", "datasets", "limbeck[hub]"):
        limbeck.build_store("owner/name", tmp_path / "store")


APART = {"executorch", "series"}
"""Not in `all`: the first is large, and the second holds numpy back."""


def test_every_extra_that_is_named_exists_and_all_has_them() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "limbeck").rglob("*.py"))
    named = {*re.findall(r"limbeck\[(\w+)\]", code), *re.findall(r'require\(\s*"(\w+)"', code)}
    assert named <= set(extras)
    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything.removeprefix("limbeck"))) == set(extras) - {"all", "dev", "docs"} - APART
