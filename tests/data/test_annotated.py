"""Annotated keypoints in a CSV file: places in the square of an image, names, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.data.annotated import AnnotatedPair, keypoint_file, read_annotated
from limbeck.data.store.store import Store
from tests.helpers.errors import raises

HEAD = "path,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
STORE = Store.from_arrays(np.zeros((2, 20, 40, 3), np.uint8))  # its paths are 0 and 1


def write(folder: Path, text: str) -> Path:
    file = folder / "keypoints.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_places_are_shares_of_the_middle_square(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + "1,10,0,30,20\n0,20,5,,\n")
    names, places = read_annotated(file, STORE)
    assert names == ("left_eye", "right_eye")
    np.testing.assert_allclose(places[1], [[0, 0], [1, 1]])
    np.testing.assert_allclose(places[0], [[0.5, 0.25], [np.nan, np.nan]])
    assert keypoint_file(tmp_path) == str(file)
    assert keypoint_file(tmp_path / "other") is None


def test_names_are_matched_and_give_mirrored_pairs_and_eyes(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = write(tmp_path, HEAD + "0,1,2,3,4\n1,1,2,3,4\n")
    second = write(tmp_path / "other", "path,right_eye_x,right_eye_y,left_eye_x,left_eye_y\n0,3,4,1,2\n1,3,4,1,2\n")
    pair = AnnotatedPair.read((first, STORE), (second, STORE))
    np.testing.assert_array_equal(pair.train, pair.test)
    assert pair.pairs() == [(0, 1)]
    assert pair.eyes() == (0, 1)
    renamed = pair._replace(names=("nose", "right_eye"))
    assert renamed.pairs() == []
    assert renamed.eyes() is None


@pytest.mark.parametrize(
    ("text", "code", "values"),
    [
        ("path,a_x\n0,1\n1,2\n", "not-keypoints", ["a_y"]),
        ("file,a_x,a_y\n0,1,2\n1,1,2\n", "not-keypoints", ["path"]),
        ("path,a,b\n0,1,2\n", "not-keypoints", ["NAME_y"]),
        ("path,a_x,a_y\n0,1,2\n1,left,2\n", "not-keypoints", ["left", "'1'"]),
        ("path,a_x,a_y\n0,1,2\n1,nan,2\n", "not-keypoints", ["nan"]),
        ("path,a_x,a_y\n0,1,2\n", "image-without-keypoints", ["'1'"]),
    ],
    ids=str,
)
def test_files_that_hold_no_keypoints_are_refused(text: str, code: str, values: list[str], tmp_path: Path) -> None:
    with raises(code, *values):
        read_annotated(write(tmp_path, text), STORE)


def test_sets_that_differ_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = write(tmp_path, HEAD + "0,1,2,3,4\n1,1,2,3,4\n")
    second = write(tmp_path / "other", "path,left_eye_x,left_eye_y\n0,1,2\n1,1,2\n")
    with raises("keypoints-differ", "right_eye"):
        AnnotatedPair.read((first, STORE), (second, STORE))
    second.write_text(HEAD + "0,1,2,,4\n1,1,2,,4\n", encoding="utf-8")
    with raises("keypoints-differ", "right_eye", str(second)):
        AnnotatedPair.read((first, STORE), (second, STORE))
    with raises("not-readable", "nowhere"):
        read_annotated(tmp_path / "nowhere", STORE)
