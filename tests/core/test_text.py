"""Sizes, durations and counts read as a person would write them."""

import pytest

from limbeck.core.text import csv_cell, first_names, format_bytes, format_duration, plain_cell, plural


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (3.1e9, "3.1 GB"), (2.5e6, "2.5 MB")])
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (9.4, "9.4 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86390, "1 d 0 h"),
        (3600 * 24 * 1234, "1,234 d 0 h"),
    ],
)
def test_a_duration_has_two_units_and_carries_over(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_counts() -> None:
    assert [plural(n, "image") for n in (0, 1, 2500)] == ["0 images", "1 image", "2,500 images"]
    assert plural(2, "class", "classes") == "2 classes"
    assert [plural(n, "epoch") for n in (0.5, 1.0, 12.0)] == ["0.5 epochs", "1 epoch", "12 epochs"]


@pytest.mark.parametrize("text", ["=1+1", "+a", "'quoted'", "'", "a=b", ""])
def test_a_cell_is_no_formula_and_reads_back(text: str) -> None:
    assert not csv_cell(text).startswith(("=", "+"))
    assert plain_cell(csv_cell(text)) == text


def test_long_lists_are_cut_short() -> None:
    assert first_names(["a", "b", "c"]) == "a, b, c"
    assert first_names(["a", "b", "c", "d", "e"]) == "a, b, c, 2 more"
