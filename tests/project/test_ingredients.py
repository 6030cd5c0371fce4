"""The table of ingredients is that of its results."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_benchmarks_has_the_table_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m benchmarks.ingredients table` writes it."""
    page, picture = Path(shutil.copy(ROOT / "BENCHMARKS.md", tmp_path)), tmp_path / "picture.svg"
    before = page.read_text(encoding="utf-8")
    flags = ["--page", str(page), "--picture", str(picture)]
    monkeypatch.setattr(sys, "argv", ["benchmarks.ingredients", "table", *flags])
    runpy.run_module("benchmarks.ingredients", run_name="__main__")
    assert page.read_text(encoding="utf-8") == before
    assert picture.read_text(encoding="utf-8").startswith("<?xml")
    results = json.loads((ROOT / "benchmarks" / "results" / "ingredients.json").read_text(encoding="utf-8"))
    assert [arm for arm in results if f"| {arm} |" not in before] == []
