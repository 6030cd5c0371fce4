"""An array that is filled row by row: whatever ends the process, it continues to the array of one that ran through."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbeck.core import resumable_array
from limbeck.core.config import Json
from limbeck.core.resumable_array import ResumableArray, read_array_manifest
from tests.helpers.errors import raises

ROWS = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
SETTINGS: dict[str, Json] = {"seed": 1, "names": ["a", "b"]}


class Killed(BaseException):
    """As sudden as a power failure: nothing in the library catches it."""


def array(path: Path, **settings: Any) -> ResumableArray:
    return ResumableArray(path, (3,), np.float32, SETTINGS | settings)


def fill(target: ResumableArray, stop: int = 20, block: int = 4) -> NDArray[Any]:
    for start in range(target.rows, stop, block):
        target.append(ROWS[start : min(start + block, stop)])
        target.commit()
    return target.read()


def test_the_file_is_an_ordinary_array(tmp_path: Path) -> None:
    rows = fill(array(tmp_path / "a.npy"))
    assert isinstance(rows, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), ROWS)
    assert json.loads((tmp_path / "a.json").read_text()) == {"settings": SETTINGS, "rows": 20}
    np.testing.assert_array_equal(array(tmp_path / "a.npy").read(), ROWS)


def test_values_may_be_structured(tmp_path: Path) -> None:
    pairs = np.zeros((4, 2), np.dtype([("neighbor", "<i4"), ("cosine", "<f4")]))
    pairs["neighbor"] = np.arange(8).reshape(4, 2)
    target = ResumableArray(tmp_path / "a.npy", (2,), pairs.dtype, {})
    target.append(pairs)
    target.commit()
    np.testing.assert_array_equal(target.read(), pairs)


MOMENTS = [(name, call) for name in ("append", "commit", "_write_manifest", "fsync") for call in (1, 2, 3)]


@pytest.mark.parametrize(("name", "call"), [*MOMENTS, ("_prepare", 1)])
def test_a_kill_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    owner: Any = resumable_array if name == "fsync" else ResumableArray
    function, calls = getattr(owner, name), []

    def killing(*args: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return function(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killing)
        with pytest.raises(Killed):
            fill(array(tmp_path / "a.npy"))
    again = array(tmp_path / "a.npy")
    assert again.rows % 4 == 0
    assert again.rows <= 4 * (call - 1)
    np.testing.assert_array_equal(fill(again), ROWS)


@pytest.mark.parametrize("lost", range(0, 400, 37))
def test_bytes_that_a_disk_lost_are_written_again(tmp_path: Path, lost: int) -> None:
    fill(array(tmp_path / "a.npy"))
    size = (tmp_path / "a.npy").stat().st_size
    os.truncate(tmp_path / "a.npy", max(0, size - lost))
    again = array(tmp_path / "a.npy")
    assert again.rows == max(0, (240 - lost) // 12)
    np.testing.assert_array_equal(fill(again), ROWS)


def test_rows_that_were_not_committed_are_written_again(tmp_path: Path) -> None:
    target = array(tmp_path / "a.npy")
    fill(target, stop=8)
    target.append(ROWS[::-1][:4])
    again = array(tmp_path / "a.npy")
    assert again.rows == 8
    np.testing.assert_array_equal(fill(again), ROWS)


def test_other_settings_start_over(tmp_path: Path) -> None:
    fill(array(tmp_path / "a.npy"))
    other = array(tmp_path / "a.npy", seed=2)
    assert other.rows == 0
    np.testing.assert_array_equal(array(tmp_path / "a.npy").read(), ROWS)  # nothing is lost before the first row
    np.testing.assert_array_equal(fill(other, stop=4), ROWS[:4])
    assert array(tmp_path / "a.npy").rows == 0


def test_truncating(tmp_path: Path) -> None:
    target = array(tmp_path / "a.npy")
    fill(target)
    target.truncate(5)
    np.testing.assert_array_equal(target.read(), ROWS[:5])
    assert array(tmp_path / "a.npy").rows == 5
    np.testing.assert_array_equal(fill(target), ROWS)
    target.truncate(0)
    assert target.read().shape == (0, 3)


def test_the_manifest_may_be_elsewhere(tmp_path: Path) -> None:
    target = ResumableArray(tmp_path / "store" / "a.npy", (3,), np.float32, SETTINGS, tmp_path / "plan.json")
    fill(target)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a.npy"]
    assert read_array_manifest(tmp_path / "plan.json") == {"settings": SETTINGS, "rows": 20}


@pytest.mark.parametrize("header", [b"junk", b"\x93NUMPY\x01\x00\xff\xff", b"\x93NUMPY\x01\x00v\x00__import__('os')"])
def test_a_damaged_array_is_refused(tmp_path: Path, header: bytes) -> None:
    fill(array(tmp_path / "a.npy"))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(header + data[len(header) :])
    with raises("damaged-array", tmp_path / "a.npy"):
        array(tmp_path / "a.npy").read()


def test_an_array_of_another_shape_is_refused(tmp_path: Path) -> None:
    fill(array(tmp_path / "a.npy"))
    np.save(tmp_path / "a.npy", np.zeros((40, 2), np.float32))
    with raises("damaged-array", "(40, 2)", "(20, 3)"):
        array(tmp_path / "a.npy").read()


@pytest.mark.parametrize(("text", "code"), [("{", "not-json"), ("[]", "not-a-manifest"), ("{}", "not-a-manifest")])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with raises(code, tmp_path / "a.json"):
        array(tmp_path / "a.npy")
