"""A part of a source: so many samples, drawn at random, the same ones each time, in the order of the source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.data.check.scan import check_store
from limbeck.data.sources.base import ImageSource
from limbeck.data.sources.open import open_source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.open import build_store, open_store
from tests.helpers.errors import raises
from tests.helpers.sources import numbered, write_folder, write_parquet, write_tar

Write = Callable[[Path], Path]
SOURCES: dict[str, Write] = {
    "folder": lambda path: write_folder(path / "photos", numbered(range(12))),
    "tar": lambda path: write_tar(path / "photos.tar", numbered(range(12))),
    "parquet": lambda path: write_parquet(
        path / "photos.parquet", [{"bytes": data, "path": name} for name, data in numbered(range(12))]
    ),
}


def paths(source: ImageSource) -> list[str]:
    return [sample.path for sample in source.samples()]


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_so_many_samples_are_taken_in_their_order(write: Write, tmp_path: Path) -> None:
    whole = open_source(source := write(tmp_path))
    part = open_source(source, Selection(max_images=5))
    assert (part.count, part.max_images, len(paths(part))) == (5, 5, 5)
    assert paths(part) == [path for path in paths(whole) if path in paths(part)] == paths(part)
    assert len({whole.fingerprint, part.fingerprint, open_source(source, Selection(max_images=6)).fingerprint}) == 3
    same = open_source(source, Selection(max_images=12))
    assert (same.fingerprint, same.max_images, paths(same)) == (whole.fingerprint, None, paths(whole))
    assert len(list(part.preview())) >= 1


def test_an_order_with_a_period_loses_no_class() -> None:
    labels = np.arange(1000) % 10
    part = open_source((np.zeros((1000, 2, 2, 3), np.uint8), labels), Selection(max_images=100))
    counts = np.bincount([sample.label for sample in part.samples()], minlength=10)
    assert counts.sum() == 100
    assert counts.min() > 0


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_what_is_left_out_by_name_is_not_drawn(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    source = write(tmp_path)
    part = open_source(source, Selection(exclude=("0[0-5]*", "typo"), max_images=4))
    assert (part.count, len(paths(part)), min(paths(part)) > "06") == (4, 4, True)
    assert [item.path for item in part.left_out] == [f"0{row}.png" for row in range(6)]
    assert "typo" in caplog.text
    assert len(build_store(source, tmp_path / "store", exclude=("0[0-5]*",), max_images=4)) == 4
    all_left = open_source(source, Selection(only=("1*",), max_images=4))
    assert (all_left.max_images, paths(all_left)) == (None, ["10.png", "11.png"])
    with raises("all-excluded", source, "--only 2*", "12 images"):
        open_source(source, Selection(only=("2*",), max_images=4))


def test_fewer_than_one_image_are_refused() -> None:
    with raises("out-of-range", "-3"):
        Selection(max_images=-3)


@pytest.mark.parametrize("how", [{}, {"keep": "webp"}, {"keep": "webp", "runner": "local", "workers": 2}])
def test_a_store_knows_of_what_part_it_is(how: dict[str, Any], tmp_path: Path) -> None:
    source = write_folder(tmp_path / "photos", numbered(range(12)))
    store = build_store(source, tmp_path / "store", max_images=5, **how)
    assert (len(store), store.max_images) == (5, 5)
    assert "has not changed" in check_store(tmp_path / "store")[1]
    assert len(open_store(tmp_path / "store", max_images=5)) == 5
    with raises("selection-of-a-store", "--max-images 4"):
        open_store(tmp_path / "store", max_images=4)
    cached = [open_store(source, tmp_path / "cache", max_images=most) for most in (5, 6, 12, None)]
    assert [len(store) for store in cached] == [5, 6, 12, 12]
    assert cached[0].digest == build_store(source, tmp_path / "raw", max_images=5).digest
