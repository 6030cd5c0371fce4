"""Lines of reference, verdict, whitening and several networks, through the real command line and as functions."""

import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.evaluator import evaluate
from limbeck.evaluation.hits import pack_hits
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.measure import measure
from limbeck.evaluation.references import FILTERS, PIXELS, fixed_models, load_whole, measure_references
from limbeck.evaluation.render import model_table
from limbeck.evaluation.results import EvaluationResult, LayerResult, ModelScores
from limbeck.evaluation.verdict import cheapest_cut, verdict
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.shades import CFG, PLAIN, shades
from tests.helpers.tiny import tiny_vit

ACCURACIES = ("knn", "knn5", "linear", "knn_whitened")
QUICK = ("--alignment-images", "20", "--no-latency", "--linear", "none")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cache filters and references in a folder of the test."""
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_run_stands_among_its_lines_of_reference(limbeck: Run, trained: Path, photos: Path, tmp_path: Path) -> None:
    images = ("--train", photos / "train", "--test", photos / "test")
    flags = ("--alignment-images", "20", "--no-latency", "--whiten", "--beside", trained / "encoder")
    code, out, err = limbeck("evaluate", trained, *images, *flags)
    assert code == 0, err
    assert "k-NN takes 16 neighbors instead of 20" in err or "k-NN takes 15 neighbors instead of 20" in err
    result = json.loads((trained / "result.json").read_text())
    names = ["untrained network", PIXELS, FILTERS, str(trained / "encoder")]
    assert [model["name"] for model in result["references"]] == names
    for word in ("network", "raw pixels", "patch filters", "untrained network", "±", "k = 1", "white"):
        assert word in out, word
    for model in result["references"]:
        assert {"parameters", "gflops", "width", *ACCURACIES} <= set(model["values"])
        for name in ACCURACIES:
            p = model["values"][name]
            assert model["values"][f"{name}_stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 80))
    last = result["layers"][-1]["values"]
    same, untrained = result["references"][-1]["values"], result["references"][0]["values"]
    assert same["width"] == last["width"] == 32
    for name in ACCURACIES:
        assert same[name] == pytest.approx(last[name], abs=0.03)
        assert untrained[name] == last[f"untrained_{name}"]
    assert result["k"] < 20
    assert result["verdict"]
    assert result["verdict"] in " ".join(out.split())
    page = tmp_path / "report.html"
    assert limbeck("report", trained, "--out", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert '<th scope="row">patch filters</th>' in text
    assert "half-whitened: " in text


def test_references_are_left_out_where_they_are_not_wanted(limbeck: Run, trained: Path, photos: Path) -> None:
    images = ("--train", photos / "train", "--test", photos / "test")
    code, out, _ = limbeck("evaluate", trained, *images, *QUICK, "--no-references", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["references"] == []
    assert found["k"] < 20
    assert "above" not in found["verdict"]


def test_several_networks_give_one_table(limbeck: Run, trained: Path, photos: Path) -> None:
    images = ("--train", photos / "train", "--test", photos / "test")
    code, out, err = limbeck("evaluate", trained / "encoder", *images, *QUICK, "--json")
    assert code == 0, err
    whole = json.loads(out)
    assert whole["results"] == {}
    assert [model["name"] for model in whole["networks"]] == [str(trained / "encoder"), PIXELS, FILTERS]
    copy = trained.parent / "copy"
    if not copy.exists():
        copy.symlink_to(trained)
    code, out, err = limbeck("evaluate", trained, copy, trained / "encoder", *images, *QUICK, "--json")
    assert code == 0, err
    found = json.loads(out)
    rows = [str(trained), f"{trained}, untrained", str(copy), f"{copy}, untrained", PIXELS, FILTERS]
    assert [model["name"] for model in found["networks"]] == [*rows, str(trained / "encoder")]
    assert set(found["results"]) == {str(trained), str(copy)}
    first, second = found["results"].values()
    assert first["references"] == second["references"]
    assert limbeck("evaluate", trained, copy, *images, *QUICK)[1].count("raw pixels") >= 1


@pytest.mark.parametrize("name", ["timm:resnet1", "nowhere/at/all"])
def test_a_network_that_is_not_there_is_one_sentence(limbeck: Run, trained: Path, photos: Path, name: str) -> None:
    images = ("--train", photos / "train", "--test", photos / "test")
    for arguments in ((trained, *images, "--beside", name), (name, *images)):
        code, out, err = limbeck("evaluate", *arguments)
        assert (code, out) == (1, "")
        assert f"'{name}' cannot be evaluated" in err
        assert len(err.strip().splitlines()) == 1


def test_weights_that_cannot_be_downloaded_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("offline mode is enabled")

    monkeypatch.setattr("timm.create_model", offline)
    with raises("weights-not-loaded", "timm:resnet18.a1_in1k", "offline mode") as caught:
        load_whole("timm:resnet18.a1_in1k")
    assert "\n" not in str(caught.value)


def test_labels_are_needed_to_compare_networks_that_are_not_runs(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, image in enumerate((photos / "test").rglob("*.png")):
        (flat / f"{number}.png").write_bytes(image.read_bytes())
    code, _, err = limbeck("evaluate", trained / "encoder", "--train", flat, "--test", flat)
    assert code == 1
    assert "label" in err


def test_no_more_neighbors_vote_than_the_smallest_class_has() -> None:
    train = shades(45, 0)
    few = Store.from_arrays(train.images[[0, 1, 2, 3, 4, 5, 6, 9]], train.labels[[0, 1, 2, 3, 4, 5, 6, 9]])
    few = replace(few, label_names=train.label_names)
    backbone = tiny_vit()
    result, two, one = (
        evaluate(backbone, few, shades(30, 1), replace(CFG, k=k), preprocessing=PLAIN) for k in (20, 2, 1)
    )
    assert (result.k, two.k, one.k) == (2, 2, 1)
    assert result.layers == two.layers


def test_one_class_is_refused_also_where_others_have_names() -> None:
    train, test = (
        Store.from_arrays(store.images[::3], store.labels[::3], store.label_names)
        for store in (shades(45, 0), shades(30, 1))
    )
    with raises("one-class", "dark"):
        EvalData.of(train, test, CFG)


def test_fixed_models_are_on_the_device_of_the_evaluation() -> None:
    data = replace(EvalData.of(shades(45, 0), shades(30, 1), CFG), device=torch.device("meta"))
    for model in fixed_models(data):
        given = MetricInputs(model, data)
        tensors = [*given.networks[0].parameters(), *given.networks[0].buffers()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_fixed_models_are_measured_like_any_other() -> None:
    data = EvalData.of(shades(45, 0), shades(30, 1), replace(CFG, whiten=True))
    for model in fixed_models(data):
        ((values, _),) = measure(MetricInputs(model, data)).values()
        if model.name == PIXELS:  # filters do not notice the brightness of an image
            assert (values["knn"] or 0) > 0.6, "chance is 1/3"
            assert (values["knn_whitened"] or 0) > 0.6
        assert values["width"] == (768 if model.name == PIXELS else 80)
        assert (values["gflops"] or 0) > 0 or model.name == PIXELS


def test_fixed_models_are_measured_once_for_images_and_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = replace(CFG, references=True)
    data = EvalData.of(shades(45, 0), shades(30, 1), cfg)
    first = measure_references(data)
    assert [scores.name for scores in first] == [PIXELS, FILTERS]
    others = [replace(data, k=2, cfg=replace(cfg, k=2)), EvalData.of(shades(45, 0), shades(30, 2), cfg)]
    monkeypatch.setattr("limbeck.evaluation.references.fixed_models", lambda data: [])
    assert measure_references(data) == first
    assert measure_references(replace(data, cfg=replace(cfg, progress=True))) == first
    assert [measure_references(other) for other in others] == [(), ()]
    for file in (tmp_path / ".cache" / "limbeck").glob("references-*.json"):
        file.write_text("damaged")
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert measure_references(data) != ()
    assert "not cached" in caplog.text


def scored(knn: tuple[float | None, ...], images: int = 1000, **references: float) -> EvaluationResult:
    """Return a result with these k-NN accuracies of layers and of lines of reference, without the hits."""
    result = evaluate(tiny_vit(1), shades(9, 0, False), shades(30, 1, False), CFG, preprocessing=PLAIN)
    layers = tuple(
        LayerResult(depth=depth, values={} if p is None else {"knn": p}) for depth, p in enumerate(knn, start=1)
    )
    lines = tuple(
        ModelScores(name=name.replace("_", " "), image_size=16, values={"knn": p}) for name, p in references.items()
    )
    return replace(result, layers=layers, references=lines, test=replace(result.test, images=images))


@pytest.mark.parametrize(
    ("knn", "images", "depth"),
    [
        ((0.5, 0.96, 0.95), 1000, 2),
        ((0.951, 0.94, 0.96), 1000, 3),
        ((0.951, 0.94, 0.96), 400, 1),
        ((0.9, 0.92, 0.94), 1000, 3),
        ((0.9, 0.92, 0.94), 40, 2),
    ],
)
def test_the_place_to_cut_is_within_a_standard_error_of_the_best(
    knn: tuple[float, ...], images: int, depth: int
) -> None:
    layer = cheapest_cut(scored(knn, images))
    assert layer is not None
    assert layer.depth == depth


def test_the_verdict_names_what_is_above_level_and_below_by_the_errors() -> None:
    good = verdict(scored((0.3, 0.41, 0.412, 0.405), raw_pixels=0.196, patch_filters=0.33, other=0.42, best=0.6))
    for part in ("layer 2 of 4", "41.0 ± 1.6 %", "above raw pixels (19.6) and patch filters (33.0)"):
        assert part in good, part
    assert good.endswith("level with other (42.0), below best (60.0)")
    poor = verdict(scored((0.2, 0.21), raw_pixels=0.196, patch_filters=0.33))
    assert poor.startswith("not yet better than raw pixels and patch filters: ")
    assert "--from" in poor
    assert "--teacher patch-filters" in poor
    some = verdict(scored((0.25, 0.3), raw_pixels=0.196, patch_filters=0.33))
    assert some.startswith("not yet better than patch filters: ")
    assert "above raw pixels (19.6)" in some
    follower = verdict(scored((0.25, 0.3), raw_pixels=0.196, patch_filters=0.2, projected_patch_filters=0.29))
    assert follower.startswith("not yet better than projected patch filters: ")
    assert "--teacher" not in follower
    noisy = verdict(scored((0.25, 0.3), 100, raw_pixels=0.196, patch_filters=0.33))
    assert noisy.startswith("not yet better than raw pixels and patch filters: ")
    assert verdict(scored((0.5,))) == "the network has 50.0 ± 1.6 % k-NN accuracy"
    assert verdict(scored((None, None))) == ""


def test_the_verdict_is_about_pairs_of_the_same_images() -> None:
    ours, theirs = np.zeros(1000, bool), np.zeros(1000, bool)
    ours[:600], theirs[:570] = True, True
    result = scored((0.6,), raw_pixels=0.57, patch_filters=0.57)
    layer = replace(result.layers[0], hits={"knn": pack_hits(torch.from_numpy(ours))})
    hits = [{"knn": pack_hits(torch.from_numpy(each))} for each in (theirs, np.roll(theirs, 300))]
    lines = tuple(replace(line, hits=each) for line, each in zip(result.references, hits, strict=True))
    assert verdict(result).startswith("not yet better than raw pixels and patch filters: "), "errors of 2.2 points"
    found = verdict(replace(result, layers=(layer,), references=lines))
    assert found.startswith("not yet better than patch filters: "), "of which 330 images are another's each"
    assert "above raw pixels (57.0), level with patch filters (57.0)" in found
    with raises("not-a-result", "raw"):
        replace(result, layers=(replace(layer, hits={"knn": "raw"}),))


def test_a_table_of_models_has_the_width_and_short_names() -> None:
    values: dict[str, float | None] = {"parameters": 1e6, "gflops": 0.5, "width": 1600, "knn": 0.5, "knn_stderr": 0.016}
    names = ("/a/long/path/of/many/folders/to/runs/first", "patch filters")
    console = Console(file=StringIO(), width=80)
    console.print(model_table([ModelScores(name=name, image_size=32, values=values) for name in names]))
    assert isinstance(console.file, StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["patch", "filters", "1.00", "0.500", "1,600", "50.0", "1.6"] in lines
    assert any(line[:1] == ["…/folders/to/runs/first"] for line in lines)


def test_a_result_with_references_survives_its_file(tmp_path: Path) -> None:
    cfg: EvaluateConfig = replace(CFG, references=True, whiten=True)
    result = evaluate(tiny_vit(1), shades(45, 0), shades(30, 1), cfg, preprocessing=PLAIN, reference=tiny_vit(1))
    assert [model.name for model in result.references] == ["untrained network", PIXELS, FILTERS]
    result.save(tmp_path / "result.json")
    assert EvaluationResult.load(tmp_path / "result.json") == result
    assert np.isfinite([value for value in result.layers[0].values.values() if value is not None]).all()
