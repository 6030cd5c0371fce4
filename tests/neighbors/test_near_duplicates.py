"""Near-duplicates: what thumbnails see and what not, planted copies and leaks, and the command."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.neighbors.near_duplicate_report import find_near_duplicates
from limbeck.neighbors.near_duplicates import matches_across, matches_within, thumbnails
from tests.helpers.commands import Run


def pictures(count: int, seed: int = 0, size: int = 40) -> NDArray[np.uint8]:
    """Colourful images of smooth noise, none like another."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in coarse]
    )


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


SAME = {
    "recompressed": recompressed,
    "darker": lambda image: image.point(lambda value: value * 0.8),
    "half as large and back": lambda image: image.resize((20, 20), Image.Resampling.BILINEAR).resize((40, 40)),
    "shifted by a pixel": lambda image: image.crop((1, 0, 40, 40)).resize((40, 40)),
}
OTHER = {"mirrored": ImageOps.mirror, "the negative": ImageOps.invert, "upside down": ImageOps.flip}


def cosines(images: NDArray[np.uint8], changed: NDArray[np.uint8]) -> NDArray[np.float64]:
    one, other = (thumbnails(Store.from_arrays(array)).astype(np.float64) for array in (images, changed))
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def changed_by(change: object, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(change(Image.fromarray(image)).convert("RGB")) for image in images])  # type: ignore[operator]


@pytest.mark.parametrize("name", SAME)
def test_thumbnails_do_not_see(name: str) -> None:
    images = pictures(20)
    assert cosines(images, changed_by(SAME[name], images)).min() > 0.95


@pytest.mark.parametrize("name", OTHER)
def test_thumbnails_see(name: str) -> None:
    images = pictures(20)
    assert cosines(images, changed_by(OTHER[name], images)).max() < 0.9


def test_blank_images_are_alike_and_like_nothing_else() -> None:
    grayscale = np.full((3, 32, 32, 3), [[[[0]]], [[[128]]], [[[255]]]], np.uint8)
    grayscale[0, 3, 5] += 1  # noise
    found = matches_within(thumbnails(Store.from_arrays(np.concatenate([pictures(5, size=32), grayscale]))))
    assert found.indices.tolist() == [5, 6, 7]


def test_groups_are_chains() -> None:
    """0 - 1 - 2 along an arc, a pair, and one alone; ten copies are one group although each names five."""
    angles = np.deg2rad([0, 10, 20, 90, 95, 180])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = matches_within(features, threshold=0.98)
    assert found.indices.tolist() == [0, 1, 2, 3, 4]
    assert found.match_indices.tolist() == [1, 0, 1, 4, 3] or found.match_indices.tolist() == [1, 2, 1, 4, 3]
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, 0, 1, 1]
    copies = matches_within(np.concatenate([np.eye(30), np.tile(np.eye(30)[3], (20, 1))]))
    assert copies.indices.tolist() == [3, *range(30, 50)]
    assert set(copies.groups.tolist()) == {0}  # type: ignore[union-attr]
    assert len(matches_within(np.ones((1, 4))).indices) == 0


def planted() -> tuple[Store, Store]:
    """40 images with copies of 3 and 7 (twice) at the end; 30 others among which 5 and 3 are hidden, recompressed."""
    images, others = pictures(40), pictures(30, seed=1)
    others[[4, 20]] = changed_by(recompressed, images[[5, 3]])
    return Store.from_arrays(np.concatenate([images, images[[3, 7, 7]]])), Store.from_arrays(others)


def test_planted_copies_and_leaks_are_found_and_nothing_else(tmp_path: Path) -> None:
    store, against = planted()
    found = find_near_duplicates(store, against)
    assert found.within.indices.tolist() == [3, 7, 40, 41, 42]
    assert found.within.match_indices.tolist() == [40, 41, 3, 7, 7]
    assert found.within.groups is not None
    assert found.within.groups.tolist() == [0, 1, 0, 1, 1]
    assert found.across is not None
    assert (found.across.indices.tolist(), found.across.match_indices.tolist()) == ([3, 5, 40], [20, 4, 20])
    for number in ("5 of 43", "2 groups", "3 (6.98%)", "30 of memory"):
        assert number in found.sentence()
    with found.write(tmp_path).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["other_row"], line["other_in"], line["group"]) for line in lines[3:7]] == [
        ("41", "7", "", "1"),
        ("42", "7", "", "1"),
        ("3", "20", "memory", ""),
        ("5", "4", "memory", ""),
    ]
    sections = found.sections()
    assert [len(section.pictures) for section in sections] == [3, 3]  # 3-40, 7-41 and 42-7; each leak


def test_what_images_are_compared_by_can_be_replaced() -> None:
    store, _ = planted()
    labels = np.arange(43) % 40
    found = find_near_duplicates(store, features=lambda _: np.eye(40)[labels])
    assert found.within.indices.tolist() == [0, 1, 2, 40, 41, 42]


def test_real_digits_leak_nothing_at_a_high_threshold() -> None:
    images, labels = digits()
    features = thumbnails(Store.from_arrays(images[labels != 1][::4]))
    assert len(matches_across(features[::2], features[1::2], threshold=0.99).indices) == 0
    assert len(matches_across(features[:5], features[:5], threshold=0.999).indices) == 5


def save(folder: Path, images: NDArray[np.uint8]) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return folder


def test_the_command(limbeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files without a store, of files with one, and of a store: the same, with paths."""
    monkeypatch.setenv("HOME", str(tmp_path))
    store, against = planted()
    photos, others = save(tmp_path / "photos", store.images[:]), save(tmp_path / "others", against.images[:])
    tables = []
    commands: list[list[Any]] = [[photos], [photos, "--build-store", tmp_path / "store"], [tmp_path / "store"]]
    for number, words in enumerate(commands):
        out = tmp_path / f"check{number}"
        code, _, err = limbeck("check", *words, "--near-duplicates", "--against", others, "--out", out)
        assert code == 0, err
        assert "5 of 43 images have a near-duplicate, in 2 groups; 3 (6.98%) have one among the 30 of" in err
        assert (out / "check.html").read_text().count("cosine") == 6
        tables.append((out / "near_duplicates.csv").read_text())
    assert tables[0] == tables[1] == tables[2]
    assert "03.png" in tables[0]
    code, _, err = limbeck(
        "check", tmp_path / "store", "--near-duplicates", "--similarity-threshold", "2", "--out", tmp_path / "check"
    )
    assert (code, "threshold 2.0" in err) == (1, True)
    assert not (tmp_path / "check").exists()


def test_without_being_asked_nothing_is_looked_for(limbeck: Run, tmp_path: Path) -> None:
    photos = save(tmp_path / "photos", pictures(4))
    assert limbeck("check", photos, "--out", tmp_path / "check")[0] == 0
    assert sorted(path.name for path in (tmp_path / "check").iterdir()) == ["check.csv", "check.html"]
