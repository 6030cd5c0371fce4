"""Decoding in parallel keeps the order, takes a bounded number of rows in advance, and accounts for every row."""

import csv
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data.decoded_sample import CHUNK
from limbeck.data.sources.base import ImageSource, Sample
from limbeck.data.store.build import choose_size
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.data.threads import ordered_map
from tests.helpers.errors import raises


def write_images(folder: Path, count: int, size: tuple[int, int] = (9, 7)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(draw.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")


def source_of(sizes: list[int]) -> ImageSource:
    samples = [Sample(str(row), np.zeros((side, 2 * side), np.uint8)) for row, side in enumerate(sizes)]
    return ImageSource(name="test", samples=lambda: iter(samples), count=len(samples))


def test_the_store_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 5 * CHUNK + 3)
    stores = [build_store(tmp_path / "photos", tmp_path / f"{n}", workers=n) for n in (1, 2, 7)]
    assert len({store.digest for store in stores}) == 1
    expected = np.asarray(Image.open(tmp_path / "photos" / "042.png").resize((7, 7), Image.Resampling.BILINEAR))
    assert np.array_equal(stores[0].images[42], expected)


def test_ordered_map_keeps_the_order_and_its_distance() -> None:
    taken, release = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    def slow_first(number: int) -> int:
        if number == 0:
            assert release.wait(10)
        return number

    results = ordered_map(slow_first, items(), workers=3)
    threading.Timer(0.05, release.set).start()
    assert next(results) == 0
    assert len(taken) <= 2 * 3 + 1
    assert list(results) == list(range(1, 100))


def test_an_error_in_a_worker_arrives() -> None:
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda number: 1 // number, [1, 0, 1], workers=2))


@pytest.mark.parametrize(
    ("sizes", "expected"), [([32] * 5 + [500], 32), ([100, 128, 130], 128), ([129] * 3, 256), ([20, 40], 30)]
)
def test_the_size_follows_the_median_short_side(sizes: list[int], expected: int) -> None:
    assert choose_size(source_of(sizes)) == expected


def test_the_size_comes_from_images_that_can_be_opened() -> None:
    samples = [Sample(str(row), b"broken") for row in range(300)] + [Sample("300", np.zeros((40, 50), np.uint8))]
    assert choose_size(ImageSource(name="test", samples=lambda: iter(samples), count=301)) == 40


def test_every_file_is_accounted_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    folder, out = tmp_path / "photos", tmp_path / "store"
    write_images(folder, 60)
    whole = (folder / "000.png").read_bytes()
    for name, data in {"a.jpg": b"", "b.png": whole[:120], "c.png": b"text", "d.jpg": whole, "e.txt": b"no"}.items():
        (folder / name).write_bytes(data)
    store = build_store(folder, out)
    assert (len(store), store.skipped) == (61, 3)  # d.jpg is a PNG, and is read
    line, labels = caplog.messages
    assert "labels: none" in labels
    for part in (
        f"61 images stored at 7 x 7 in {out}",
        "3 skipped (empty: 1, truncated: 1, unreadable: 1)",
        f"{out}/skipped.csv",
        "1 other file ignored",
        "exact duplicate: 1, tiny: 61, wrong extension: 1",
    ):
        assert part in line
    with (out / "skipped.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["path"] for row in listed] == ["a.jpg", "b.png", "c.png"]
    assert [row["issue"] for row in listed] == ["empty", "truncated", "unreadable"]
    assert "truncated" in listed[1]["detail"]


def test_names_that_are_no_text_are_kept_readable(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 2)
    (tmp_path / "photos" / "000.png").rename(tmp_path / "photos" / b"caf\xe9.png".decode(errors="surrogateescape"))
    assert len(build_store(tmp_path / "photos", tmp_path / "store")) == 2


class Interrupt(BaseException):
    """As sudden as control-C."""


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    class Failing:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, row: int) -> np.ndarray:
            if row == 70:
                raise Interrupt
            return np.zeros((8, 8, 3), np.uint8)

    with pytest.raises(Interrupt):
        build_store(Failing(), tmp_path / "store", store_size=8)
    assert [path.name for path in tmp_path.iterdir()] == [".store.lock"]


def test_no_image_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    for size in (None, 8):
        with raises("no-usable-image", folder, "a.jpg"):
            build_store(folder, tmp_path / "store", store_size=size)
    with raises("no-usable-image", "list", "empty"):
        build_store([], tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_only_a_store_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_images(out, 1)
    for path in (out, out / "000.png"):
        with raises("not-a-store", path):
            build_store(np.zeros((2, 8, 8), np.uint8), path)
    assert (out / "000.png").exists()
    (tmp_path / "empty").mkdir()
    assert len(build_store(np.zeros((2, 8, 8), np.uint8), tmp_path / "empty")) == 2
    assert len(build_store(np.zeros((3, 8, 8), np.uint8), tmp_path / "empty")) == 3
    assert len(Store.open(tmp_path / "empty")) == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["empty", "out"]


@pytest.mark.parametrize(("store_size", "workers", "code"), [(0, None, "bad-store-size"), (8, 0, "bad-workers")])
def test_numbers_that_make_no_sense(tmp_path: Path, store_size: int, workers: int | None, code: str) -> None:
    with raises(code, 0):
        build_store(np.zeros((2, 8, 8), np.uint8), tmp_path / "store", store_size=store_size, workers=workers)
