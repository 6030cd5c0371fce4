"""The table of the side-by-side benchmark is that of its results."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "side_by_side.json"


def table(results: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the benchmark write its table into the page; return the page."""
    picture = page.with_suffix(".svg")
    flags = ["--results", results, "--page", page, "--picture", picture]
    monkeypatch.setattr(sys, "argv", ["benchmarks.side_by_side", "table", *map(str, flags)])
    runpy.run_module("benchmarks.side_by_side", run_name="__main__")
    assert picture.read_text(encoding="utf-8").startswith("<?xml")
    return page.read_text(encoding="utf-8")


def test_benchmarks_has_the_table_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m benchmarks.side_by_side table` writes it."""
    page = Path(shutil.copy(ROOT / "BENCHMARKS.md", tmp_path))
    before = page.read_text(encoding="utf-8")
    assert "| two views at 224 px of JPEGs |" in before
    assert table(RESULTS, page, monkeypatch) == before


def test_a_ratio_is_the_median_of_those_of_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = {"limbeck": [1.0, 2.0, 4.0], "other": [3.0, 2.0, 8.0]}
    where = {"date": "2030-01-01", "commit": "abc", "processor": "a processor", "load": 3.0}
    versions = {"other": "1.2", "torch": "9", "python": "4"}
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    results.write_text(
        json.dumps({"step": {"rounds": rounds, "unit": "ms", "note": "a note", "versions": versions, **where}})
    )
    page.write_text("before <!-- side by side: begin -->old<!-- side by side: end --> after")
    found = table(results, page, monkeypatch)
    (row,) = [line for line in found.splitlines() if line.startswith("| step")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["step", "2 ms", "other 1.2", "3", "2.00", "1.00 to 3.00", "3", "3.0"]
    assert found.startswith("before ")
    assert found.endswith(" after")
    assert "old" not in found
