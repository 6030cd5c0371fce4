"""Keypoint detectors evaluated from the command line: every protocol, the lines beside it, JSON, report, mistakes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.cli import main
from limbeck.data.annotated import AnnotatedPair
from limbeck.data.store.open import open_store
from limbeck.data.store.store import read_paths
from limbeck.evaluation.metrics.keypoints import protocols
from limbeck.evaluation.results import EvaluationResult
from limbeck.keypoints.encoder_io import load_detector
from tests.helpers.commands import Run

SIZE, COUNT, POINTS = 32, {"train": 40, "test": 24}, 3
NETWORK = ["--backbone.image-size", SIZE, "--backbone.width", 4, "--backbone.keypoints", POINTS]


def write(folder: Path, count: int, seed: int) -> None:
    """Write images of two bright eyes, with keypoints.csv beside them."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    rows = []
    for number in range(count):
        pixels = rng.integers(0, 60, (SIZE, SIZE, 3), np.uint8)
        x, y = (int(place) for place in rng.integers(2, SIZE - 16, 2))
        for left in (x, x + 8):
            pixels[y : y + 5, left : left + 5] = 230
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        rows.append([f"{number:02d}.png", x + 2.5, y + 2.5, x + 10.5, y + 2.5])
    with (folder / "keypoints.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"], *rows])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, and a run on them that was evaluated."""
    folder = tmp_path_factory.mktemp("eyes")
    for seed, (role, count) in enumerate(COUNT.items()):
        write(folder / role, count, seed)
    training = ["--method", "autolink", *NETWORK, "--epochs", 2, "--batch-size", 10]
    measuring = ["--train", folder / "train", "--test", folder / "test", "--no-latency"]
    for command in (
        ["pretrain", folder / "train", "--out", folder / "run", *training],
        ["evaluate", folder / "run", *measuring],
    ):
        main([str(word) for word in command])
    return folder


def test_every_protocol_is_measured_beside_what_needs_no_training(evaluated: Path) -> None:
    result = EvaluationResult.load(evaluated / "run" / "result.json")
    assert result.keypoints == ("left_eye", "right_eye")
    (layer,) = result.layers
    assert [model.name for model in result.references] == ["untrained network", "mean pose", "supervised pixels"]
    for name in ("keypoint_error", "keypoint_mirrored", "keypoint_near", "keypoint_eyes", "keypoint_sum"):
        for column in (name, f"{name}_stderr", f"untrained_{name}"):
            assert layer.values[column] is not None, column
    untrained, mean, supervised = (model.values["keypoint_error"] or 0.0 for model in result.references)
    assert layer.values["untrained_keypoint_error"] == untrained
    assert supervised < 0.6 * mean
    assert "mean pose" in result.verdict
    assert (layer.values["parameters"], layer.values["width"]) != (None, None)


def test_values_are_those_of_the_keypoints_that_the_detector_finds(evaluated: Path) -> None:
    """Images are read, and keypoints found, without any code of the evaluation."""
    found, pair_of = [], []
    for role in COUNT:
        store = open_store(evaluated / role)
        images = [np.asarray(Image.open(evaluated / role / path)) for path in read_paths(store)]
        with torch.no_grad():
            batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
            found.append(load_detector(evaluated / "run")(batch).final.double() / 2 + 0.5)
        pair_of.append((evaluated / role / "keypoints.csv", store))
    pair = AnnotatedPair.read(pair_of[0], pair_of[1])
    inputs = np.column_stack([found[0].numpy(), np.ones(len(found[0]))])
    weights = np.linalg.lstsq(inputs, pair.train.reshape(len(inputs), -1), rcond=None)[0]
    predicted = np.column_stack([found[1].numpy(), np.ones(len(found[1]))]) @ weights
    errors = np.linalg.norm(predicted.reshape(pair.test.shape) - pair.test, axis=2).mean(axis=1)
    values = EvaluationResult.load(evaluated / "run" / "result.json").layers[0].values
    assert values["keypoint_error"] == pytest.approx(errors.mean(), rel=1e-4)
    assert values["keypoint_error_stderr"] == pytest.approx(errors.std(ddof=1) / len(errors) ** 0.5, rel=1e-4)
    assert values["keypoint_eyes"] == pytest.approx(protocols(found[0], found[1], pair)["keypoint_eyes"], rel=1e-4)


def test_report_and_json_have_the_error(evaluated: Path, limbeck: Run, tmp_path: Path) -> None:
    code, out, err = limbeck(
        "evaluate",
        evaluated / "run",
        "--train",
        evaluated / "train",
        "--test",
        evaluated / "test",
        "--no-latency",
        "--json",
    )
    assert code == 0, err
    values = json.loads(out)["layers"][0]["values"]
    limbeck("report", evaluated / "run", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{100 * values['keypoint_error']:.2f} %" in page
    assert "mean pose" in page


def test_only_defined_protocols_are_measured(evaluated: Path) -> None:
    points = np.random.default_rng(0).random((30, 2, 2))
    pair = AnnotatedPair(("nose", "chin"), points[:20].copy(), points[20:])
    features = torch.rand(30, 4, dtype=torch.float64)
    assert {"keypoint_mirrored", "keypoint_eyes"}.isdisjoint(protocols(features[:20], features[20:], pair))
    pair.train[0, 0] = np.nan
    assert {"keypoint_error", "keypoint_sum"} == {
        name for name in protocols(features[:20], features[20:], pair) if "stderr" not in name
    }


def test_what_cannot_be_measured_is_said(evaluated: Path, limbeck: Run, tmp_path: Path) -> None:
    write(tmp_path / "few", 2 * POINTS + 1, 2)
    write(tmp_path / "plain", 8, 3)
    (tmp_path / "plain" / "keypoints.csv").unlink()
    run, measured = evaluated / "run", ["--test", evaluated / "test"]
    for train, code, value in (("few", "too-few-images", "7"), ("plain", "no-keypoints", "--train-keypoints")):
        status, _, err = limbeck("evaluate", run, "--train", tmp_path / train, *measured)
        assert status == 1
        assert value in err, code
    named = ["--train-keypoints", evaluated / "train" / "keypoints.csv"]
    status, _, err = limbeck("evaluate", run, "--train", tmp_path / "plain", *measured, *named, "--no-latency")
    assert status == 0, err
    result = EvaluationResult.load(run / "result.json")
    assert (result.train.images, result.test.images) == (8, COUNT["test"])
