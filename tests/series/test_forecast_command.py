"""`limbeck evaluate --forecast` on recordings, by the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.series.data import SeriesData
from limbeck.series.encoder_io import load_encoder
from limbeck.series.forecast import Recordings, last_step_features
from tests.helpers.commands import Run

SMALL = ["--backbone.hidden", "4", "--backbone.dim", "6", "--backbone.depth", "4", "--backbone.kernel-features", "84"]


def sines(steps: int) -> np.ndarray:
    at = np.arange(steps)[:, None]
    rng = np.random.default_rng(0)
    return np.stack([np.sin(at / period) + 0.1 * rng.standard_normal((steps, 1)) for period in (5, 9)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, values = tmp_path_factory.mktemp("recordings"), sines(480)
    for name, part in (("train", values[:, :320]), ("test", values[:, 320:])):
        np.savez(folder / f"{name}.npz", series=part)
    return folder / "train.npz", folder / "test.npz"


def test_recordings_are_forecast_at_every_depth(limbeck: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    train, test = files
    run = tmp_path / "run"
    assert limbeck("pretrain", train, "--out", run, "--batch-size", "2", "--epochs", "2", *SMALL)[0] == 0
    words = ["evaluate", run, "--train", train, "--test", test, "--no-latency", "--json"]
    code, out, err = limbeck(*words, "--forecast", "4", "8")
    assert code == 0, err
    found = json.loads(out)
    assert [layer["depth"] for layer in found["layers"]] == [1, 2, 3, 4]
    for layer in found["layers"]:
        assert 0 < layer["values"]["forecast_mse"] < 1
        assert layer["values"]["untrained_forecast_mae"] > 0
    assert found["references"][-1]["name"] == "raw window"
    assert found["references"][-1]["values"]["forecast_mse"] < 0.2
    for horizon, code_of_error in (("500", "recordings-too-short"), ("0", "value-out-of-range")):
        code, out, _ = limbeck(*words, "--forecast", horizon)
        assert (code > 0, json.loads(out)["error"]["code"]) == (True, code_of_error)
    with np.load(test) as arrays:
        one = arrays["series"][:1]
    np.savez(tmp_path / "one.npz", series=one)
    words[5] = tmp_path / "one.npz"
    code, out, _ = limbeck(*words, "--forecast", "4")
    assert (code, json.loads(out)["error"]["code"]) == (1, "recordings-differ")
    encoder = load_encoder(run)
    recordings = Recordings.of(SeriesData(sines(320)), SeriesData(sines(160)), (4,))
    windows = torch.from_numpy(recordings.windows(np.array([3, 250])))
    assert windows[0, :197].isnan().all()
    assert torch.equal(windows[1, :, 0], torch.from_numpy(recordings.raw[0, 50:251, 0]))
    features = last_step_features(encoder)(windows)
    own = encoder(windows, taps=(4,), feature_maps=True)
    torch.testing.assert_close(features[4][:, :6], own.feature_maps[4][:, :, 200])
