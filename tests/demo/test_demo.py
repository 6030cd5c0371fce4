"""The demo, end to end with little of everything."""

import csv
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from limbeck.data.samples import digits
from limbeck.demo import images as module
from limbeck.demo.images import DemoRecipe, demo
from limbeck.evaluation.results import EvaluationResult
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.models.config import BackboneConfig
from limbeck.train.config import TrainConfig
from tests.helpers.errors import raises

TINY = DemoRecipe(
    backbone=BackboneConfig(image_size=28, args={"patch_size": 14, "embed_dim": 16, "depth": 2, "num_heads": 2}),
    host=SimCLRConfig(hidden=16, dim=8),
    hidden=16,
    training=TrainConfig(batch_size=16, precision="fp32"),
)


def write_few_digits(folder: Path) -> None:
    images, labels = digits()
    for label in range(10):
        for split, rows in (("train", slice(0, 8)), ("test", slice(8, 12))):
            (folder / split / str(label)).mkdir(parents=True)
            for number, image in enumerate(images[labels == label][rows]):
                Image.fromarray(image).save(folder / split / str(label) / f"{number}.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the folder of a completed demo and its messages."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch, messages() as logged:
        patch.setattr(module, "write_digits", write_few_digits)
        assert demo(out, 1, TINY) == out / "report.html"
    return out, logged


@contextmanager
def messages() -> Iterator[list[str]]:
    """Collect what is logged; `caplog` cannot be used in a fixture of a module."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("limbeck")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield logged
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_both_runs_had_the_same_budget_and_are_evaluated(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    for name in ("sdssl", "simclr"):
        rows = list(csv.DictReader((out / "runs" / name / "metrics.csv").read_text().splitlines()))
        assert rows[-1]["step"] == "5"
        result = EvaluationResult.load(out / "runs" / name / "result.json")
        assert [layer.depth for layer in result.layers] == [1, 2]
        assert result.test.images == 40
        for layer in result.layers:
            assert {"knn", "linear", "untrained_knn", "untrained_linear"} <= set(layer.values)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<b>sdssl</b>" in text
    assert "<b>simclr</b>" in text


def test_the_table_and_the_places_of_files_are_logged(finished: tuple[Path, list[str]]) -> None:
    out, logged = finished
    table = next(text for text in logged if "k-NN %" in text).splitlines()
    assert table[1].split()[:6] == ["layer", "GFLOPs", "latency", "untrained", "simclr", "sdssl"]
    first = EvaluationResult.load(out / "runs" / "sdssl" / "result.json").layers[0]
    assert table[2].split()[6] == f"{100 * (first.values['knn'] or 0):.1f}"
    assert any(str(path) in line for path in out.glob("sdssl-layer*-onnx") for line in logged)


def test_the_cut_is_a_network_for_onnx_and_timm(finished: tuple[Path, list[str]]) -> None:
    import onnxruntime

    out, _ = finished
    (onnx,), (folder,) = out.glob("sdssl-layer*-onnx"), out.glob("sdssl-layer*-timm")
    images = torch.rand(3, 3, 28, 28)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    session = onnxruntime.InferenceSession(onnx / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(images).numpy()
    np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, atol=1e-4)


def test_a_second_time_uses_what_is_there(finished: tuple[Path, list[str]]) -> None:
    out, first = finished
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "report.html")
    written = {path: path.stat().st_mtime_ns for path in files}
    (out / "report.html").unlink()
    with messages() as logged:
        demo(out, 1, TINY)
    assert (out / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in files} == written
    assert [text for text in logged if "k-NN %" in text] == [text for text in first if "k-NN %" in text]


def test_a_run_that_was_stopped_is_continued(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    run = out / "runs" / "simclr"
    before = EvaluationResult.load(run / "result.json")
    os.rename(run / "encoder", run / "elsewhere")
    (run / "result.json").unlink()
    with messages() as logged:
        demo(out, 1, TINY)
    assert any(text.startswith("continuing") and str(run) in text for text in logged)
    again = EvaluationResult.load(run / "result.json")
    assert [layer.values["knn"] for layer in again.layers] == [layer.values["knn"] for layer in before.layers]


def test_runs_of_another_length_are_not_touched(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    with raises("demo-differs", str(out / "runs" / "simclr"), "1 epoch;", "2)"):
        demo(out, 2, TINY)
