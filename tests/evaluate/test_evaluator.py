"""A whole evaluation of a tiny ViT and a tiny CNN, its file and its table."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from rich.console import Console

from limbeck.core.errors import UserError
from limbeck.evaluate import EvaluateConfig, Result, evaluate
from limbeck.evaluate.render import table
from limbeck.models.backbone import Backbone
from tests.helpers.shades import CFG, shades, tiny_resnet
from tests.helpers.tiny import tiny_vit


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_every_layer_is_judged(build: Callable[[], Backbone]) -> None:
    backbone = build()
    result = evaluate(backbone, shades(45, 0), shades(30, 1), CFG, reference=backbone)
    assert [row.tap for row in result.rows] == list(backbone.taps)
    assert result.probe == "lbfgs"
    for shallow, deep in pairwise(result.rows):
        assert shallow.parameters < deep.parameters
        assert shallow.gflops < deep.gflops
    for row in result.rows:
        for accuracy in (row.knn, row.five_nn, row.linear):
            assert accuracy is not None
            assert accuracy > 0.6  # chance is 1/3
        assert (row.random_knn, row.random_five_nn, row.random_linear) == (row.knn, row.five_nn, row.linear)
        assert row.positive is not None
        assert row.negative is not None
        assert row.ratio == pytest.approx(row.negative / row.positive)
        assert 1 <= (row.effective_rank or 0) <= backbone.tap_dims[row.tap]
    assert result.rows[-1].to_last == pytest.approx(result.rows[-1].positive)


def test_one_seed_gives_one_result() -> None:
    backbone = tiny_vit()
    sgd = replace(CFG, linear="sgd")
    first, again, other = (evaluate(backbone, shades(45, 0), shades(30, 1), replace(sgd, seed=s)) for s in (0, 0, 1))
    assert first.probe == "sgd"
    assert first.rows == again.rows
    assert first.rows != other.rows


def test_without_labels_there_is_geometry_alone() -> None:
    result = evaluate(tiny_vit(), shades(9, 0, labelled=False), shades(30, 1, labelled=False), CFG)
    row = result.rows[0]
    assert (row.knn, row.five_nn, row.linear, result.probe) == (None, None, None, None)
    assert row.effective_rank is not None
    assert row.uniformity is not None
    shown = text(result)
    assert "30 images without labels" in shown
    assert "k-NN" not in shown
    assert "latency" not in shown
    assert "uniformity" in shown


def test_a_result_survives_its_file_whole_or_not_at_all(tmp_path: Path) -> None:
    result = evaluate(tiny_vit(), shades(45, 0), shades(30, 1), CFG, reference=tiny_vit())
    path = tmp_path / "result.json"
    result.save(path)
    assert Result.load(path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a result"),
        ("[1]", "is not a result"),
        ('{"version": 99}', "version 99"),
        ('{"version": 1, "row": []}', "'row'"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        Result.load(path)
    with pytest.raises(UserError, match="is not a result"):
        Result.load(tmp_path / "missing.json")


def test_a_collapsed_backbone_gives_json_without_infinities(tmp_path: Path) -> None:
    backbone = tiny_vit()
    with torch.no_grad():
        for parameter in backbone.model.norm.parameters():
            parameter.fill_(0.0)
        backbone.model.norm.bias.fill_(1.0)
    result = evaluate(backbone, shades(45, 0), shades(30, 1), CFG)
    assert result.rows[0].ratio is None
    assert result.rows[0].effective_rank == pytest.approx(1.0, abs=1e-3)
    result.save(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["rows"][0]["ratio"] is None


def text(result: Result) -> str:
    """The table as a terminal of 80 columns shows it."""
    console = Console(file=StringIO(), width=80)
    console.print(table(result))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_table_has_a_line_per_layer_and_fits_a_terminal() -> None:
    result = evaluate(tiny_vit(), shades(45, 0), shades(30, 1), replace(CFG, latency=True), reference=tiny_vit())
    shown = text(result)
    assert "45 + 30 images, 3 classes, linear by lbfgs" in shown
    assert "…" not in shown
    lines = [line.split() for line in shown.splitlines() if line.strip()[:1].isdigit()][1:]
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert [line[4] for line in lines] == [f"{100 * (row.knn or 0):.1f}" for row in result.rows]


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        EvaluateConfig(temperature=0.0)
    with pytest.raises(UserError, match="images_for_geometry is 1"):
        EvaluateConfig(alignment_images=1)
    with pytest.raises(UserError, match="device 'tpu9'"):
        evaluate(tiny_vit(), shades(45, 0), shades(30, 1), replace(CFG, device="tpu9"))
    with pytest.raises(UserError, match="1 image"):
        evaluate(tiny_vit(), shades(45, 0), shades(1, 1), CFG)
