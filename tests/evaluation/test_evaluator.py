"""A whole evaluation of a tiny ViT and a tiny CNN, its file and its table."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from limbeck.core.config import to_json
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.evaluation.render import layer_table
from limbeck.evaluation.results import EvaluationResult, LayerResult
from limbeck.models.backbone import Backbone
from tests.helpers.errors import raises
from tests.helpers.shades import CFG, PLAIN, shades, tiny_resnet
from tests.helpers.tiny import tiny_vit


def evaluated(
    backbone: Backbone, cfg: EvaluateConfig = CFG, *, labeled: bool = True, reference: Backbone | None = None
) -> EvaluationResult:
    """Return the result on 45 training and 30 test images of three shades."""
    train, test = shades(45, 0, labeled), shades(30, 1, labeled)
    return evaluate(backbone, train, test, cfg, preprocessing=PLAIN, reference=reference)


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_every_layer_is_evaluated(build: Callable[[], Backbone]) -> None:
    backbone = build()
    result = evaluated(backbone, reference=backbone)
    assert [layer.depth for layer in result.layers] == list(backbone.taps)
    assert result.linear_probe == "logistic"
    for shallow, deep in pairwise(layer.values for layer in result.layers):
        assert (shallow["parameters"] or 0) < (deep["parameters"] or 0)
        assert (shallow["gflops"] or 0) < (deep["gflops"] or 0)
    for layer in result.layers:
        values = layer.values
        for name in ("knn", "knn5", "linear"):
            assert (values[name] or 0) > 0.6, "chance is 1/3"
        for name in ("knn", "knn5", "linear", "effective_rank"):
            assert values[f"untrained_{name}"] == values[name]
        positive, negative = values["positive_distance"], values["negative_distance"]
        assert positive
        assert negative
        assert values["alignment_ratio"] == pytest.approx(negative / positive)
        assert 1 <= (values["effective_rank"] or 0) <= backbone.tap_dims[layer.depth]
    assert sum(count for _, _, count in result.confusions) == 30
    right = sum(count for label, predicted, count in result.confusions if label == predicted)
    assert result.layers[-1].values["linear"] == pytest.approx(right / 30)
    last = result.layers[-1].values
    assert last["distance_to_last"] == pytest.approx(last["positive_distance"])


@pytest.mark.parametrize("linear", ["sgd", "adam"])
def test_one_seed_gives_one_result(linear: str) -> None:
    backbone, cfg = tiny_vit(), replace(CFG, linear=linear)  # type: ignore[arg-type]
    first, again, other = (evaluated(backbone, replace(cfg, seed=seed)) for seed in (0, 0, 1))
    assert first.linear_probe == linear
    assert first.layers == again.layers
    assert first.layers != other.layers


def test_without_labels_the_metrics_that_need_none_are_computed() -> None:
    result = evaluated(tiny_vit(), labeled=False)
    values = result.layers[0].values
    assert {"effective_rank", "uniformity", "alignment_ratio", "gflops"} <= set(values)
    assert not {"knn", "knn5", "linear"} & set(values)
    assert result.linear_probe is None
    shown = text(result)
    assert "30 images" in shown
    assert "uniformity" in shown
    for absent in ("k-NN", "latency", "init"):
        assert absent not in shown


def test_input_is_preprocessed_as_the_encoder_says_unless_overridden() -> None:
    backbone = tiny_vit()
    train, test = shades(45, 0), shades(30, 1)
    odd = replace(PLAIN, image_size=8, mean=(0.9, 0.1, 0.5), std=(0.5, 0.6, 0.7))
    own = evaluate(backbone, train, test, CFG, preprocessing=odd)
    given = replace(CFG, image_size=8, mean=odd.mean, std=odd.std)
    overridden = evaluate(backbone, train, test, given, preprocessing=PLAIN)
    assert own.layers == overridden.layers
    assert own.layers != evaluated(backbone).layers


def test_latency_is_measured_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.metrics.cost.SECONDS", 0.0)
    for threads in (1, 2):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        layers = evaluated(tiny_vit(), replace(CFG, latency=True)).layers
        assert all((layer.values["latency_ms"] or 0) > 0 for layer in layers)
        assert all(("latency_all_threads_ms" in layer.values) == (threads == 2) for layer in layers)
    assert "latency_ms" not in evaluated(tiny_vit()).layers[0].values


def test_a_result_survives_its_file_whole_or_not_at_all(tmp_path: Path) -> None:
    result = evaluated(tiny_vit(), reference=tiny_vit())
    path = tmp_path / "result.json"
    result.save(path)
    assert EvaluationResult.load(path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("content", "code", "value"),
    [
        ("{", "not-a-result", "result.json"),
        ("[1]", "not-a-result", "result.json"),
        ('{"version": 99}', "result-version", 99),
        ('{"version": 2, "rows": []}', "result-version", 3),
        ('{"version": 4, "layer": []}', "unknown-key", "layers"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str, code: str, value: object) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with raises(code, value):
        EvaluationResult.load(path)
    with raises("not-a-result", tmp_path / "missing.json"):
        EvaluationResult.load(tmp_path / "missing.json")


@pytest.mark.parametrize("value", ["0.5", True, [0.5]])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, value: object) -> None:
    result = evaluated(tiny_vit())
    data: Any = {"version": 4, "result": to_json(result)}
    data |= data.pop("result")
    data["layers"][1]["values"]["knn"] = value
    (tmp_path / "result.json").write_text(json.dumps(data))
    with raises("not-a-result", "knn", "layer 2", repr(value)):
        EvaluationResult.load(tmp_path / "result.json")


def test_a_collapsed_backbone_gives_json_without_infinities(tmp_path: Path) -> None:
    backbone = tiny_vit()
    with torch.no_grad():
        for parameter in backbone.model.norm.parameters():
            parameter.fill_(0.0)
        backbone.model.norm.bias.fill_(1.0)
    result = evaluated(backbone)
    assert result.layers[0].values["alignment_ratio"] is None
    assert result.layers[0].values["effective_rank"] == pytest.approx(1.0, abs=1e-3)
    result.save(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["layers"][0]["values"]["alignment_ratio"] is None


def text(result: EvaluationResult, width: int = 80) -> str:
    """Return the table as a terminal of `width` columns shows it."""
    console = Console(file=StringIO(), width=width)
    console.print(layer_table(result, width))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_table_has_a_line_per_layer_and_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.metrics.cost.SECONDS", 0.0)
    result = evaluated(tiny_vit(), replace(CFG, latency=True), reference=tiny_vit())
    for width in (40, 80, 160):
        shown = text(result, width)
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= width
        lines = [line.split() for line in shown.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ")]
        assert [line[0] for line in lines] == ["1", "2", "3"]
        accuracies = [f"{100 * (layer.values['knn'] or 0):.1f}" for layer in result.layers]
        assert width == 40 or [line[4 if width == 80 else 7] for line in lines] == accuracies
        assert ("uniformity" in shown) == (width == 160), "the least important columns are left out"
    for word in ("45 + 30 images", "3 classes", "logistic", "k-NN", "init", "linear", "alignment", "rank"):
        assert word in text(result), word


def test_a_latency_that_falls_with_depth_is_marked_as_noise() -> None:
    result = evaluated(tiny_vit())
    times = (1.5, 0.25, 2.5)
    layers = [
        LayerResult(depth=layer.depth, values=layer.values | {"latency_ms": ms})
        for layer, ms in zip(result.layers, times, strict=True)
    ]
    noisy = text(replace(result, layers=tuple(layers)))
    assert "~0.25" in noisy
    assert "~1.50" not in noisy
    assert "~2.50" not in noisy
    assert noisy.count("~") == 2, "the value and the note"


@pytest.mark.parametrize("name", ["temperature", "linear_epochs", "memory_gib"])
def test_settings_out_of_range_are_named(name: str) -> None:
    with raises("value-out-of-range", name, 0):
        replace(EvaluateConfig(), **{name: 0})  # type: ignore[arg-type]
    with raises("value-out-of-range", "alignment_images", 1):
        EvaluateConfig(alignment_images=1)


def test_a_device_that_is_not_there_and_too_few_images_are_refused() -> None:
    with raises("unusable-device", "tpu9"):
        evaluated(tiny_vit(), replace(CFG, device="tpu9"))
    with raises("too-few-images", 1):
        evaluate(tiny_vit(), shades(45, 0), shades(1, 1), CFG, preprocessing=PLAIN)


def test_an_image_size_that_the_network_cannot_take_is_refused_before_any_features() -> None:
    with raises("image-size", 9, "vit"):
        evaluated(tiny_vit(), replace(CFG, image_size=9))
    assert evaluated(tiny_resnet(), replace(CFG, image_size=9)).image_size == 9
