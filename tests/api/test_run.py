"""A run is its path, reads its own files, and shows itself without trusting what they hold."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import limbeck
from limbeck.api.run import Run
from tests.helpers.errors import raises


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Run:
    """Return a copy of the trained run that a test may write to."""
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("result.json", ".lock"))
    return Run.open(tmp_path / "run")


def test_a_run_is_the_path_of_its_folder(copy: Run, tmp_path: Path) -> None:
    assert os.fspath(copy) == str(copy) == str(tmp_path / "run")
    assert Path(copy) == copy.path
    assert (copy / "metrics.csv").is_file()
    assert copy == Run(tmp_path / "run")
    assert len({copy, Run(tmp_path / "run"), Run(tmp_path)}) == 2
    assert limbeck.load(copy, depth=1).taps == (1,)
    with raises("not-a-run", tmp_path):
        Run.open(tmp_path)


def test_metrics_are_columns(copy: Run) -> None:
    metrics = copy.metrics()
    rows = (copy / "metrics.csv").read_text().count("\n") - 1
    assert {len(column) for column in metrics.values()} == {rows}
    assert metrics["step"][-1] == 10
    assert np.isfinite(metrics["loss"]).any()
    assert copy.config.training.epochs == 2


def test_a_run_evaluates_and_exports_itself(copy: Run, photos: Path, tmp_path: Path) -> None:
    assert copy.result is None
    options: dict[str, Any] = {"linear": "none", "latency": False, "alignment_images": 20, "k": 3}
    result = copy.evaluate(photos / "train", photos / "test", **options)
    assert result.config.k == 3
    found = copy.result
    assert found is not None
    assert found.layers == result.layers
    assert copy.export(tmp_path / "model", depth=2).depth == 2
    assert copy.report().parent == copy.path
    assert f"{result.layers[-1].values['knn']:.1%}" in copy._repr_html_()
    with raises("unknown-option", "linaer", "'linear'"):
        copy.evaluate(photos / "train", photos / "test", linaer="none")


def test_a_run_shows_itself_as_text_and_as_escaped_html(copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    copy.show()
    out = capsys.readouterr().out
    for word in ("sdssl over byol", "vit_tiny_patch16_224", "finished", "step 10"):
        assert word in out
        assert word in copy._repr_html_()
    assert "sdssl over byol" in repr(copy)
    evil = copy.path.with_name("<script>alert(1)<")
    copy.path.rename(evil)
    assert "<script" not in Run(evil)._repr_html_()


def test_features_come_with_their_paths(copy: Run, photos: Path) -> None:
    found = limbeck.embed(photos / "test", copy)
    assert found.features.shape == (len(found.paths), 32)
    assert found.features.dtype == np.float32
    assert all((photos / "test" / path).is_file() for path in found.paths)
    assert [found.label_names[label] for label in found.labels] == [path.split("/")[0] for path in found.paths]
    first = limbeck.embed(photos / "test", copy, depth=1, batch_size=7)
    assert first.features.shape == found.features.shape
    assert not np.allclose(first.features, found.features)
    arrays = limbeck.embed(np.zeros((3, 28, 28, 3), np.uint8), copy)
    assert arrays.paths == ["0", "1", "2"]
    np.testing.assert_allclose(arrays.features[0], arrays.features[2], rtol=1e-5)


def test_one_call_trains_and_returns_the_run(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small: dict[str, Any] = {"backbone_args": {"channels": [4, 4, 8, 8]}, "method_hidden": 16, "method_dim": 8}
    run = limbeck.pretrain(photos / "test", method="simclr", backbone="resnet18", epochs=1, batch_size=32, **small)
    assert str(run) == "runs/simclr-test"
    assert run.status.state == "finished"
    assert limbeck.resume(run) == run
