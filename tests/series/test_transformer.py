"""`limbeck.series.Encoder` is a transformer of scikit-learn, for two and three axes, with a run or without."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from limbeck.modalities.series import MODALITY
from limbeck.series import Encoder
from limbeck.series.data import SeriesData
from tests.helpers.errors import raises
from tests.helpers.tiny_series import tiny_encoder, waves

SMALL: dict[str, Any] = {"steps": 2, "hidden": 4, "dim": 6, "kernel_features": 84, "device": "cpu"}


def test_it_passes_the_checks_of_scikit_learn() -> None:
    with pytest.warns():  # of the checks' own data
        results = check_estimator(Encoder(**SMALL), on_fail=None)
    bad = [(found["check_name"], found["exception"]) for found in results if found["status"] == "failed"]
    assert not bad
    assert sum(found["status"] == "passed" for found in results) > 30


def test_series_of_several_channels_are_as_in_aeon() -> None:
    data = waves(24)
    X = data.values.transpose(0, 2, 1)
    encoder = Encoder(**{**SMALL, "steps": 10, "random_state": 0}).fit(X)
    features = encoder.transform(X)
    assert features.shape == (24, 6 + 168)
    assert encoder.get_feature_names_out()[0] == "encoder0"
    assert np.array_equal(clone(encoder).fit(X).transform(X), features)
    assert Encoder(**SMALL, layer=2).fit(X).transform(X).shape == (24, 4 + 168)
    score = make_pipeline(encoder, SVC(C=100)).fit(X, data.labels).score(X, data.labels)
    assert score > 0.8


def test_the_encoder_of_a_run_is_used_as_it_is(tmp_path: Path) -> None:
    data, network = waves(8), tiny_encoder()
    MODALITY.save_encoder(network, tmp_path, data, network.cfg, {})
    X = data.values.transpose(0, 2, 1)
    found = Encoder(str(tmp_path), layer=3, device="cpu").fit(X)
    assert found.encoder_.taps[-1] == 3
    assert Encoder(str(tmp_path), device="cpu").fit(X).transform(X).shape == (8, 8)
    with raises("channels-differ", 1, 2):
        Encoder(str(tmp_path)).fit(X[:, 0])
    with raises("series-too-short", "n_features = 1"):
        Encoder().fit(np.arange(3.0)[:, None])
    with raises("series-constant"):
        Encoder().fit(SeriesData(np.eye(4)).values[:, :, 0] * 0)
