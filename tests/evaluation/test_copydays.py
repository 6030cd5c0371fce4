"""Copydays: copies that keep the pixels are found, owners follow from names, and other folders are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.core.types import Dataset
from limbeck.data.copydays import find_copydays
from limbeck.data.store.store import Store
from limbeck.evaluation.data import EvalData, as_store
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metrics import copydays
from limbeck.evaluation.models import BackboneModel, Bank
from tests.helpers.errors import raises
from tests.helpers.shades import CFG, PLAIN
from tests.helpers.tiny import SIZE, tiny_vit

COUNT = 5


class Thumbnails(BackboneModel):
    """Pixels in the place of features."""

    def descriptors(self, data: EvalData, store: Dataset) -> Bank:
        """Return the centered pixels."""
        return {1: torch.from_numpy(np.array(as_store(store).images)).flatten(1).float() - 128}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write originals of noise; strong copies are as they are, in another order, and crops are other images."""
    images = np.random.default_rng(0).integers(0, 256, (3 * COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    for number in range(COUNT):
        write(tmp_path / f"original/2{number:03}00.png", images[number])
        write(tmp_path / f"strong/2{COUNT - 1 - number:03}01.png", images[COUNT - 1 - number])
        write(tmp_path / f"jpegqual/3/2{number:03}00.png", images[number])
        write(tmp_path / f"crops/50/2{number:03}00.png", images[COUNT + number])
    return tmp_path


def write(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def data(folder: Path) -> EvalData:
    noise = np.random.default_rng(1).integers(0, 256, (2, 30, SIZE, SIZE, 3), dtype=np.uint8)
    stores = [Store.from_arrays(images) for images in noise]
    return EvalData.of(stores[0], stores[1], replace(CFG, copydays=str(folder)))


def test_copies_are_found_where_the_pixels_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = copydays.compute(MetricInputs(Thumbnails("net", tiny_vit(), PLAIN, [1]), data(folder)))[1]
    assert found["copydays_strong"] == found["copydays_jpeg"] == found["copydays_whitened"] == 1
    assert found["copydays_crops"] is not None
    assert found["copydays_crops"] < 0.8
    assert found.keys() == {column.name for column in copydays.METRIC.columns}


def test_a_strong_copy_belongs_to_the_original_with_its_first_four_characters(folder: Path) -> None:
    write(folder / "strong/200302.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    found = find_copydays(folder)
    assert [block.name for block in found.blocks] == ["strong", "crops/50", "jpegqual/3"]
    assert found.blocks[0].originals == (0, 1, 2, 3, 3, 4)
    assert found.blocks[1].originals == (0, 1, 2, 3, 4)


def test_folders_that_do_not_fit_are_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    with raises("no-copies", "nothing"):
        data(tmp_path / "nothing")
    (folder / "crops/50/200000.png").unlink()
    with raises("copies-do-not-fit", "crops/50", 4, 5):
        data(folder)
    write(folder / "strong/999900.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    with raises("no-original", "999900.png", "9999"):
        data(folder)
