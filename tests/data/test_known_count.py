"""How many images a source has, before it is read."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limbeck
from limbeck.data.sources.selection import EVERYTHING, Selection
from limbeck.data.store.known_count import known_count


def test_arrays_folders_and_stores_are_counted_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.zeros((5, 8, 8, 3), np.uint8)
    store = limbeck.build_store(pixels, tmp_path / "store")
    assert store.path is not None
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(pixels[0]).save(folder / "a.png")
    (folder / "notes.txt").write_text("no image")
    caplog.set_level(logging.INFO, "limbeck")
    caplog.clear()
    assert known_count(pixels, EVERYTHING) == known_count(store.path, EVERYTHING) == 5
    assert known_count(str(folder), EVERYTHING) == 1
    assert known_count(pixels, Selection(max_images=3)) == 3
    assert known_count(store.path, Selection(max_images=3)) == 3
    assert known_count(tmp_path / "nowhere", EVERYTHING) is None
    assert not caplog.records
