"""The table of first paths, and that it is not in Python's memory."""

import sqlite3
import tracemalloc

import pytest

from limbeck.data.first_paths import FirstPaths
from tests.helpers.errors import raises


def test_the_first_path_with_a_digest_stays() -> None:
    table, undecodable = FirstPaths(), "caf\udce9.jpg"  # a name that is no UTF-8, as Python reads it from a folder
    assert table.first("00ff", undecodable) == undecodable
    assert table.first("0100", "other.jpg") == "other.jpg"
    assert table.first("00ff", "copy.jpg") == undecodable
    assert FirstPaths().first("00ff", "copy.jpg") == "copy.jpg"


def test_memory_does_not_grow_with_the_rows() -> None:
    table = FirstPaths()

    def add(rows: range) -> None:
        for row in rows:
            table.first(f"{row:032x}", f"class/image_{row}.jpg")

    add(range(2000))  # what the first calls of a process load, and what measures coverage, is there afterwards
    tracemalloc.start()
    add(range(2000, 4000))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 50_000  # a dictionary has 500,000


def test_no_room_for_temporary_files_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def execute(self, *args: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    table = FirstPaths()
    monkeypatch.setattr(table, "_table", Full())
    with raises("no-temporary-space", "disk is full", "SQLITE_TMPDIR"):
        table.first("00", "image.jpg")
