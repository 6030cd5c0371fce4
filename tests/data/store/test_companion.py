"""Depth as images, of any unit and kind of number; companions of other rows, sizes, shapes and units are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbeck.data.decode import UndecodableError
from limbeck.data.depth import depth_content, stretch
from limbeck.data.store.companion import with_companion
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from tests.helpers.errors import raises

METERS = np.array([[0.0, 1.0], [2.0, np.nan]])


def test_near_is_white_in_any_unit_and_nothing_is_far() -> None:
    for unit in (1, 1000, 0.01):
        np.testing.assert_array_equal(stretch(unit * METERS, "distance"), [[0, 255], [0, 0]])
        np.testing.assert_array_equal(stretch(unit * METERS, "inverse"), [[0, 0], [255, 0]])
    np.testing.assert_array_equal(stretch(np.array([[1.0, 1.25, 2.0]]), "distance"), [[255, 191, 0]])


def test_sixteen_bits_keep_small_differences(tmp_path: Path) -> None:
    depth = np.array([[10_000, 10_100], [10_050, 0]], np.uint16)
    Image.fromarray(depth).save(tmp_path / "a.png")
    found = depth_content(tmp_path / "a.png", "distance")
    np.testing.assert_array_equal(np.asarray(found), [[255, 0], [128, 0]])


UNMEASURED = {"nothing": np.zeros((4, 4)), "colors": np.ones((4, 4, 3)), "picture": Image.new("RGB", (4, 4))}


@pytest.mark.parametrize("content", UNMEASURED.values(), ids=UNMEASURED)
def test_what_is_no_depth_is_said(content: Any) -> None:
    assert isinstance(depth_content(content, "distance"), UndecodableError)


def write(folder: Path, names: list[str], shape: tuple[int, int] = (16, 16)) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        values = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) + 100 * number
        Image.fromarray(values).save(folder / name)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return build_store(write(tmp_path / "rgb", ["a.png", "b.png"]), tmp_path / "stored", store_size=16)


def test_a_companion_has_the_rows_of_its_store(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "depth", ["a.tif", "b.tif"])
    build_store(tmp_path / "depth", tmp_path / "companion", store_size=16, depth="inverse")
    found = with_companion(store, tmp_path / "companion")
    assert found.companion is not None
    assert (found.companion.depth, found.digest) == ("inverse", store.digest)
    assert found.companion.images[0, 0, 0, 0] == 0
    assert found.companion.images[0, -1, -1, 0] == 255


@pytest.mark.parametrize(
    ("names", "options", "code", "values"),
    [
        (["a.png", "c.png"], {"depth": "distance"}, "other-rows", ["b"]),
        (["a.png"], {"depth": "distance"}, "other-rows", ["b", "1 row"]),
        (["a.png", "b.png"], {}, "unknown-depth", ["--depth"]),
        (["a.png", "b.png"], {"depth": "distance", "store_size": 8}, "other-store-size", ["8", "16"]),
    ],
    ids=str,
)
def test_companions_that_do_not_fit_are_refused(
    names: list[str], options: dict[str, Any], code: str, values: list[str], store: Store, tmp_path: Path
) -> None:
    build_store(write(tmp_path / "depth", names), tmp_path / "companion", **{"store_size": 16} | options)
    with raises(code, *values):
        with_companion(store, tmp_path / "companion")


def test_other_shapes_and_what_is_no_store_are_refused(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "depth", ["a.png", "b.png"], (16, 20))
    build_store(tmp_path / "depth", tmp_path / "companion", store_size=16, depth="distance")
    with raises("other-shape", "20 x 16"):
        with_companion(store, tmp_path / "companion")
    with raises("not-a-store", "depth"):
        with_companion(store, tmp_path / "depth")
    with raises("flag-without-use", "local"):
        build_store(tmp_path / "depth", tmp_path / "other", depth="distance", keep="jpeg", runner="local")
