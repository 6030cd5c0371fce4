"""The table of the side-by-side benchmark is that of its results, and its rounds are pairs."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.side_by_side import table, views
from benchmarks.side_by_side.__main__ import REPOSITORY, RESULTS
from benchmarks.side_by_side.record import OURS, Measured, paired, write
from limbeck.data.augment.views import preset


def result(**rounds: list[float]) -> dict[str, Any]:
    return {"rounds": rounds, "unit": "ms", "note": "", "load": 3.0, "versions": {"other": "1.2"}}


def test_benchmarks_has_the_table_of_the_results() -> None:
    """`python -m benchmarks.side_by_side table` writes it."""
    assert table.section(table.load(RESULTS)) in (REPOSITORY / "BENCHMARKS.md").read_text(encoding="utf-8")


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    (row,) = table.rows({"step": result(limbeck=[1.0, 2.0, 4.0], other=[3.0, 2.0, 8.0])})
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [
        *("2 ms", "other 1.2", "3", "2.00", "1.00 to 3.00", "3", "3.0"),
    ]


def test_every_side_runs_once_in_a_round_and_the_first_round_does_not_count() -> None:
    called: list[tuple[str, int]] = []
    sides = {name: lambda number, name=name: called.append((name, number)) for name in (OURS, "other")}
    found = paired(sides, 2, count=5)
    assert called == [(name, number) for number in range(3) for name in (OURS, "other")]
    assert {name: len(values) for name, values in found.items()} == {OURS: 2, "other": 2}


def test_a_result_replaces_the_older_one_of_its_name(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    for value in (1.0, 2.0):
        write(out, Measured("step", "ms", {OURS: [value]}), {"torch": "9"})
    write(out, Measured("views", "ms", {OURS: [3.0]}), {"torch": "9"})
    found = json.loads(out.read_text(encoding="utf-8"))
    assert {item: one["rounds"][OURS] for item, one in found.items()} == {"step": [2.0], "views": [3.0]}


@pytest.mark.parametrize("blurred", [False, True])
def test_what_needs_no_other_library_runs(blurred: bool) -> None:
    view, images = preset("simclr", 96 if blurred else 16)[0], views.pictures(2, 100, 100)
    views.limbeck_side(images, view)(0)
    views.on_files(views.torchvision_chain(view), views.by_pillow, [views.encoded(i) for i in images])(0)
