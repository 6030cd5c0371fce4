"""Names of files and folders: patterns that leave images out, other tools' formats, and names that are only text."""

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from limbeck.core.text import printable
from limbeck.data.check.scan import check, check_store
from limbeck.data.sources.open import open_source
from limbeck.data.store.open import build_store, open_store
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.sources import numbered, png, write_folder, write_parquet, write_tar


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        ({"exclude": ["*_mask.png", "raw"]}, ["a/1.png", "a/2.jpg", "b/1.png"]),
        ({"exclude": ["raw/*", "*/1.png"]}, ["a/1_mask.png", "a/2.jpg"]),
        ({"only": ["*.jpg", "b"]}, ["a/2.jpg", "b/1.png"]),
        ({"only": ["*.png"], "exclude": ["a"]}, ["b/1.png", "raw/1.png"]),
    ],
)
def test_images_are_left_out_by_name(
    wish: dict[str, Any], left: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a/1.png", "a/1_mask.png", "a/2.jpg", "b/1.png", "raw/1.png"]
    members = [(name, png(row)) for row, name in enumerate(names)]
    folder, archive = write_folder(tmp_path / "photos", members), write_tar(tmp_path / "photos.tar", members)
    table = write_parquet(tmp_path / "photos.parquet", [{"bytes": data, "path": name} for name, data in members])
    for source in (folder, archive, table):
        store = build_store(source, tmp_path / "store", **wish)
        stored = pq.read_table(tmp_path / "store" / "index.parquet")["path"].to_pylist()
        assert (sorted(stored), store.skipped) == (left, 0)
        assert f"{len(names) - len(left)} other file" in caplog.text or not caplog.text
        assert "has not changed" in check_store(tmp_path / "store")[1]
        assert len(open_store(source, tmp_path / "cache", **wish)) == len(left)
        assert len(open_store(source, tmp_path / "cache")) == len(names)
    assert build_store(folder, tmp_path / "store", exclude=["raw", "b"]).label_names == []


def test_patterns_take_names_as_they_are_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Brackets and both forms of Unicode fit themselves, in folders as well; what fits nothing is said."""
    caplog.set_level("INFO")
    names = ["a[1].png", "cafe\u0301_mask.png", "b.png"]
    members = [(name, png(row)) for row, name in enumerate(names)]
    (tmp_path / "shards [2020]").mkdir()
    folder = write_folder(tmp_path / "photos", members)
    archive = write_tar(tmp_path / "shards [2020]" / "0.tar", members)
    assert open_source(str(archive.parent / "*.tar")).count == len(names)
    for source in (folder, archive):
        caplog.clear()
        store = build_store(source, tmp_path / "store", exclude=["a[1].png", "caf\u00e9_*", "*_masks.png"])
        assert len(store) == 1
        assert [("*_masks.png" in text, "caf" in text) for text in caplog.messages if "--exclude" in text] == [
            (True, False)
        ]


def test_the_cache_is_where_the_desktop_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "photos", numbered(range(2)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = open_store(folder)
    assert store.path is not None
    assert store.path.is_relative_to(tmp_path / "cache" / "limbeck")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "photos" / "00.png"))
    with raises("not-writable", "XDG_CACHE_HOME", "00.png"):
        open_store(folder)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("x.zip", "unpack"),
        ("x.tfrecord", "TFRecord"),
        ("data_batch_1", "CIFAR10"),
        ("a.mp4", "ffmpeg"),
        ("b.HDF5", "h5py"),
        ("walk_TEST.ts", "limbeck pretrain"),
    ],
)
def test_what_another_tool_wrote_is_named_with_the_way_in(name: str, hint: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "data", [(name, b"x")])
    with raises("no-images", hint, name):
        open_source(tmp_path / "data")
    with raises("unknown-source", hint, name):
        open_source(tmp_path / "data" / name)


@pytest.mark.parametrize(
    "name", ["[/x].png", "cat [copy].png", ":smile:.png", "\x1b]0;x\x07\x1b[2J.png", "a\nb.png", "\u202egnp.png"]
)
def test_names_are_text(name: str, tmp_path: Path, limbeck: Run) -> None:
    """In the terminal, in messages, on the page and in the table."""
    folder = write_folder(tmp_path / "photos", [*numbered(range(2)), (name, b"x")])
    status, out, err = limbeck("check", folder, "--out", tmp_path / "check", "--allow-bad", "1")
    assert status == 0
    page, table = ((tmp_path / "check" / f"check.{kind}").read_text() for kind in ("html", "csv"))
    for text in (out, err, page, table):
        assert not {"\x1b", "\x07", "\u202e"} & {*text}
    plain = "".join(out.replace("│", "").split())
    assert printable(name).replace(" ", "")[:12] in plain or printable(name)[:4] in plain
    assert printable(name) in table


@pytest.mark.parametrize("name", ["=1+1.png", "+x.png", "-x.png", "@x.png"])
def test_no_name_is_a_formula(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", [*numbered(range(2)), (name, b"x")])
    check(folder, tmp_path / "check", build_store=tmp_path / "store", allow_bad=1)
    for file in (tmp_path / "check" / "check.csv", tmp_path / "store" / "skipped.csv"):
        cells = [cell for row in csv.reader(file.read_text().splitlines()) for cell in row]
        assert f"'{name}" in cells
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
