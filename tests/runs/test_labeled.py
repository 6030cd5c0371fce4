"""Labeled images: what an evaluation leaves out, and what it finds wrong before it decodes an image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data.sources.selection import EVERYTHING, Selection
from limbeck.data.store.known_labels import known_labels
from limbeck.data.store.open import build_store, open_store
from limbeck.evaluation.labels import match_labels
from limbeck.runs.labeled import LabeledSelection, LabeledSources
from tests.helpers.errors import raises
from tests.helpers.sources import write_tar


def write_images(folder: Path, classes: tuple[str, ...], masks: bool = False) -> Path:
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(folder / name / f"{number}.png")
            if masks:
                image.save(folder / name / f"{number}_mask.png")
    return folder


@pytest.fixture(autouse=True)
def no_decoding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_labels_are_known_from_folders_and_stores(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ("cat", "dog"))
    store = build_store(folder, tmp_path / "store")
    assert known_labels(folder, EVERYTHING) == known_labels(str(store.path), EVERYTHING) == {"cat", "dog"}
    assert known_labels(folder / "cat", EVERYTHING) == set()
    assert known_labels(folder, Selection(exclude=("*",))) is None
    assert known_labels(tmp_path / "photos.parquet", EVERYTHING) is None


def test_test_images_of_one_class_have_its_label(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One folder is no class by itself, but it is where the training images have a class of its name."""
    animals = write_images(tmp_path / "animals", ("cat", "dog"))
    one, split = write_images(tmp_path / "one", ("dog",)), write_images(tmp_path / "split" / "test", ("dog",)).parent
    for source in (one, split, str(build_store(one, tmp_path / "store").path), write_tar_of(one, tmp_path / "one.tar")):
        caplog.clear()
        train, test = LabeledSources(train=animals, test=source).open()
        found = match_labels(train, test)
        assert found.test.tolist() == [train.label_names.index("dog")] * 3
        assert [record.levelname for record in caplog.records if "'dog'" in record.message] == ["WARNING"]
    with raises("images-not-labeled", "test"):
        LabeledSources(train=animals, test=write_images(tmp_path / "other", ("owl",))).open()
    with raises("images-not-labeled", "train"):
        LabeledSources(train=one, test=animals).open()


def write_tar_of(folder: Path, out: Path) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return write_tar(out, [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files])


def test_labels_that_do_not_fit_are_found_before_a_store_is_built(tmp_path: Path) -> None:
    animals = write_images(tmp_path / "animals", ("cat", "dog"))
    others = write_images(tmp_path / "others", ("cat", "owl"))
    one = write_images(tmp_path / "one", ("cat", "cat2"))
    for train, test, code, value in (
        (animals, others, "labels-differ", "owl"),
        (animals, animals / "cat", "images-not-labeled", "test"),
        (animals / "cat", animals, "images-not-labeled", "train"),
        (one, animals, "labels-differ", "dog"),
    ):
        with raises(code, value):
            LabeledSources(train=train, test=test).open()
    with raises("unusable-device", "gpu"):
        LabeledSources(train=animals, test=animals, device="gpu").open()
    assert not (tmp_path / "cache").exists()


def test_what_the_run_left_out_is_left_out_again_unless_it_is_a_store(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ("cat", "dog"), masks=True)
    store = build_store(folder, tmp_path / "store")
    patterns = Selection(exclude=("*_mask.png",))
    inherited = LabeledSources(train=folder, test=str(store.path), left_out=LabeledSelection(patterns, inherited=True))
    train, test = inherited.open()
    assert (len(train), len(test)) == (6, 12)
    with raises("selection-of-a-store", "*_mask.png", store.path):
        LabeledSources(train=folder, test=str(store.path), left_out=LabeledSelection(patterns, inherited=False)).open()


def test_a_store_is_opened_with_the_patterns_that_it_was_built_with(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ("cat", "dog"), masks=True)
    store = build_store(folder, tmp_path / "store", exclude="*_mask.png")
    assert len(store) == 6
    assert store.exclude == ("*_mask.png",)
    assert len(open_store(tmp_path / "store", exclude=["*_mask.png"])) == 6
    with raises("selection-of-a-store", "other"):
        open_store(tmp_path / "store", exclude=["other"])
    with raises("all-excluded", folder, "*.jpg", "12 images"):
        open_store(folder, only=["*.jpg"])
