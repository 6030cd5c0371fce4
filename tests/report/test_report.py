"""The report: what stands in the page, what is refused, and the picture."""

import dataclasses
import json
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from limbeck.cli import main
from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.evaluate.config import EvaluateConfig
from limbeck.evaluate.results import Comparison, Data, ModelScores, Result, Row
from limbeck.methods import MethodConfig, method_config
from limbeck.models.backbone import BackboneConfig
from limbeck.report import cheapest_cut, layer_picture, write_report
from limbeck.report.command import run_command
from limbeck.report.sections import by_size
from limbeck.runs import api as run_module
from limbeck.runs.resolve import RunConfig
from limbeck.teachers import TeacherConfig
from limbeck.train.config import TrainConfig
from limbeck.train.optim import OptimConfig

METRICS = "step,epoch,lr,loss,host,layer1,knn\n10,1.0,0.001,9.0,3.0,3.1,\n20,2.0,0.0005,8.0,2.0,2.1,0.875\n"
MOCO: Any = method_config("mocov3")
SDSSL: Any = method_config("sdssl")


def run_config(store: str = "stores/photos", method: MethodConfig | None = None) -> RunConfig:
    backbone = BackboneConfig(image_size=28, args={"patch_size": 7, "depth": 3})
    return RunConfig(
        store=store, digest="d", method=method or SDSSL(host=MOCO()), backbone=backbone, optim=OptimConfig(lr=1e-3)
    )


def result(knn: tuple[float | None, ...] = (0.5, 0.893, 0.9), **changes: Any) -> Result:
    rows = tuple(
        Row(
            tap=tap, parameters=1000 * tap, gflops=0.01 * tap, latency_ms=0.5 * tap, knn=value, random_knn=value and 0.3
        )
        for tap, value in enumerate(knn, 1)
    )
    data = Data(path="stores/photos", images=40, digest="d")
    found = Result(
        rows=rows,
        config=EvaluateConfig(),
        probe=None,
        classes=("a", "b"),
        train=data,
        test=data,
        seconds=2.0,
        hardware={"device": "cpu"},
        command="limbeck evaluate",
    )
    return dataclasses.replace(found, **changes)


def beside_its_teacher() -> Comparison:
    teacher = ModelScores(name="teacher", dim=8, size=32, parameters=5_000_000, gflops=10.0, knn=0.955)
    student = ModelScores(
        name="student", dim=8, size=32, parameters=50_000, gflops=0.4, knn=0.912, agreement=0.8, cka=0.9
    )
    return Comparison(teacher=teacher, students=(student,), images=2001, neighbours=10)


def make_run(folder: Path, *, config: RunConfig | None = None, judged: Result | None = None, metrics: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(to_json(config or run_config())))
    if metrics:
        (folder / "metrics.csv").write_text(metrics)
    if judged:
        (folder / "encoder").mkdir()
        judged.save(folder / "result.json")
    return folder


def body(page: Path) -> str:
    """The page without plotly's own source."""
    text = page.read_text(encoding="utf-8")
    return text[: text.index("<script>")] + text[text.index("</head>") :]


def test_two_runs_stand_on_one_page_that_needs_no_network(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", judged=result(), metrics=METRICS)
    second = make_run(tmp_path / "second", judged=result((0.4, 0.5, 0.95)), metrics=METRICS)
    page = write_report([first, second], tmp_path / "new" / "report.html")
    assert page.read_text(encoding="utf-8").count("plotly.js v") == 1
    assert [file.name for file in page.parent.iterdir()] == ["report.html"]
    text = body(page)
    assert 'src="' not in text
    assert "sdssl over mocov3" in text
    assert "<b>90.0 %</b> (untrained 30.0 %)" in text
    assert "<b>first</b>: layer 2 of 3 reaches 89.3 % (the whole network 90.0 %) with 67% of the parameters" in text
    assert "<b>second</b>: only the whole network, 3 layers" in text
    assert text.count("<tr") == 2 * 4
    assert text.count("untrained</th>") == 2
    assert text.count("linear") == 0, "a chart and a column without numbers"
    for caption in ("k-NN accuracy by layer", "against latency", "effective rank", "first: loss", "learning rate"):
        assert (caption in text) == (caption != "effective rank"), caption


def test_what_users_named_is_escaped(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>&amp;"
    config = run_config(store=f"photos/{evil}", method=MOCO())
    judged = result(hardware={"device": evil}, comparison=beside_its_teacher())
    metrics = METRICS.replace("layer1", evil)
    text = body(
        write_report([make_run(tmp_path / evil, config=config, judged=judged, metrics=metrics)], tmp_path / "r")
    )
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;amp;" in text


def test_a_run_in_progress_shows_its_training_and_the_commands_that_go_on(tmp_path: Path) -> None:
    training = body(write_report([make_run(tmp_path / "a run", metrics=METRICS)], tmp_path / "report.html"))
    assert f"limbeck resume &#x27;{tmp_path}/a run&#x27;" in training
    assert "87.5 %" in training
    assert "a run: loss" in training
    assert "What each layer is worth" not in training
    (tmp_path / "a run" / "encoder").mkdir()
    done = body(write_report([tmp_path / "a run"], tmp_path / "report.html"))
    assert "limbeck resume" not in done
    assert f"limbeck evaluate &#x27;{tmp_path}/a run&#x27; --train LABELLED/train --test LABELLED/test" in done


def test_health_has_charts_and_a_sentence_and_is_no_term_of_the_loss(tmp_path: Path) -> None:
    log = METRICS.replace(",knn\n", ",knn,embedding_rank,deviation,dead_units,weight_norm\n")
    log = log.replace("3.1,\n", "3.1,,20.5,0.9,0.0,7.0\n").replace("0.875\n", "0.875,21.5,0.8,0.0,8.0\n")
    run = make_run(tmp_path / "run", metrics=log)
    (run / "health.json").write_text(json.dumps({"sentence": "healthy: <b>very</b>"}))
    text = body(write_report([run], tmp_path / "report.html"))
    assert "<h2>Health" in text
    assert "healthy: &lt;b&gt;very&lt;/b&gt;" in text
    for caption, shown in (("deviation of the embeddings", True), ("distance of teacher", False)):
        assert (caption in text) == shown
    assert text.count("run: loss and its terms") == 2
    assert "weight_norm" not in text
    (run / "health.json").write_text("[]")
    with pytest.raises(UserError, match="is not what a training wrote"):
        write_report([run], tmp_path / "report.html")


def test_a_distilled_run_stands_beside_its_teacher_and_others_do_not(tmp_path: Path) -> None:
    log = METRICS.replace(",knn\n", ",knn,agreement,cka\n").replace("3.1,\n", "3.1,,0.4,0.5\n")
    log = log.replace("0.875\n", "0.875,0.6,0.7\n")
    distilled = make_run(tmp_path / "distilled", judged=result(comparison=beside_its_teacher()), metrics=log)
    plain = make_run(tmp_path / "plain", judged=result(), metrics=METRICS)
    text = body(write_report([plain, distilled], tmp_path / "report.html"))
    assert text.count("<h2>Student and teacher") == text.count("neighbours kept</th>") == 1
    assert '<th scope="row">student</th><td>50,000</td><td>0.4</td><td>91.2</td><td>80.0</td>' in text
    assert "<b>distilled</b>: the student keeps 80&nbsp;% of the teacher&#x27;s neighbours" in text
    assert text.count("distilled: loss and its terms") == text.count("plain: loss and its terms"), "no terms of a loss"
    assert "CKA with the teacher" in text
    alone = body(write_report([plain], tmp_path / "report.html"))
    for absent in ("Student and teacher", "CKA", "teacher&#x27;s neighbours"):
        assert absent not in alone


def test_a_run_that_logged_nothing_and_one_without_labels(tmp_path: Path) -> None:
    silent = make_run(tmp_path / "silent", judged=result((None, None, None), classes=()))
    text = body(write_report([silent], tmp_path / "report.html"))
    assert "no metrics.csv" in text
    assert "<h2>Training" not in text
    assert "<h2>Layer by layer" in text
    assert "k-NN accuracy" not in text


def test_runs_of_one_name_are_told_apart_and_other_test_images_are_said(tmp_path: Path) -> None:
    other = Data(path=None, images=40, digest="other")
    first = make_run(tmp_path / "a" / "run", judged=result())
    second = make_run(tmp_path / "b" / "run", judged=result(test=other))
    text = body(write_report([first, second], tmp_path / "report.html"))
    assert f"<b>{first}</b>" in text
    assert f"<b>{second}</b>" in text
    assert "evaluated on different images" in text


def test_what_is_no_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", metrics=METRICS)
    with pytest.raises(UserError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(UserError, match="is no run"):
        write_report([run, tmp_path], tmp_path / "report.html")
    with pytest.raises(UserError, match="is a folder"):
        write_report([run], tmp_path)
    (run / "metrics.csv").write_text("step,epoch\n1,one\n")
    with pytest.raises(UserError, match="not the log of a training"):
        write_report([run], tmp_path / "report.html")
    (run / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not the log of a training"):
        write_report([run], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "method",
    [
        MOCO(momentum=0.9, trailing_norm=False, views="weak"),
        SDSSL(host=MOCO(hidden=64), layers=(1, 2), alpha=0.5, trailing_norm=True),
        SDSSL(),
    ],
)
def test_the_command_on_the_page_repeats_the_run(method: MethodConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        store="a store",
        digest="d",
        method=method,
        backbone=BackboneConfig(name="resnet18", args={"channels": [8, 8, 8, 8]}, small_stem=True, init="timm"),
        optim=OptimConfig(name="sgd", lr=0.02, betas=(0.8, 0.9), clip_grad_norm=1.0),
        training=TrainConfig(epochs=3, warmup_epochs=0.5, compile=True, precision="fp32"),
    )
    seen: dict[str, Any] = {}
    monkeypatch.setattr(run_module, "pretrain", lambda source, out, **given: seen.update(given, source=source, out=out))
    main(shlex.split(run_command(config, "runs/again"))[1:])
    assert (seen["source"], seen["out"]) == ("a store", "runs/again")
    assert [seen[key] for key in ("method", "backbone", "optim", "training")] == [
        config.method,
        config.backbone,
        config.optim,
        config.training,
    ]


def test_the_command_on_the_page_repeats_a_distillation(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        store="a store",
        digest="d",
        method=method_config("compress")(temperature=0.07, queue_size=500),  # type: ignore[call-arg]
        backbone=BackboneConfig(name="resnet18", small_stem=True),
        optim=OptimConfig(name="sgd", lr=0.02),
        training=TrainConfig(epochs=3),
        teacher=TeacherConfig(
            name="runs/big", image_size=64, center=True, val_images=5, digest="abc", license="mit", cached_views=2
        ),
    )
    seen: dict[str, Any] = {}
    monkeypatch.setattr(run_module, "distill", lambda source, out, **given: seen.update(given, source=source, out=out))
    main(shlex.split(run_command(config, "runs/again"))[1:])
    assert (seen["source"], seen["out"]) == ("a store", "runs/again")
    wanted = [config.method, config.backbone, config.optim, config.training, config.teacher]
    assert [seen[key] for key in ("method", "student", "optim", "training", "teacher")] == wanted


@pytest.mark.parametrize(("knn", "tap"), [((0.5, 0.96, 0.95), 2), ((0.951, 0.94, 0.96), 1), ((0.9, 0.92, 0.94), 3)])
def test_the_cheapest_cut_is_the_lowest_within_a_point_of_the_best(knn: tuple[float, ...], tap: int) -> None:
    row = cheapest_cut(result(knn))
    assert row is not None
    assert row.tap == tap


def test_nothing_is_cut_by_accuracies_that_are_not_known() -> None:
    assert cheapest_cut(result((None, None))) is None


def test_terms_share_a_chart_with_terms_of_their_size() -> None:
    last = {"lr": 1.0, "loss": 20.0, "a": 3.0, "predictor": 16.0, "b": 3.5, "tiny": 0.1}
    groups = by_size({name: [(1.0, 99.0), (2.0, value)] for name, value in last.items()})
    assert [list(group) for group in groups] == [["loss", "predictor"], ["a", "b"], ["tiny"]]
    assert by_size({}) == []


def test_the_picture_is_an_svg_with_a_line_per_run_and_one_for_the_shared_start(tmp_path: Path) -> None:
    results = {"sdssl": result(), "<host> & co": result((0.3, 0.5, 0.95))}
    tree = ElementTree.parse(layer_picture(results, tmp_path / "layers.svg"))
    space = {"svg": "http://www.w3.org/2000/svg"}
    lines = [path for path in tree.iterfind(".//svg:path", space) if path.get("fill") == "none"]
    assert [path.get("stroke-dasharray") is not None for path in lines] == [False, False, True]
    texts = [text.text for text in tree.iterfind(".//svg:text", space)]
    assert {"sdssl", "<host> & co", "untrained", "1", "2", "3", "30", "100"} <= set(texts)
    assert len(list(tree.iterfind(".//svg:circle", space))) == 6
    with pytest.raises(UserError, match="no k-NN accuracy"):
        layer_picture({"unlabelled": result((None, None))}, tmp_path / "none.svg")


def test_names_at_the_ends_of_lines_do_not_cover_each_other(tmp_path: Path) -> None:
    results = {name: result((0.3, 0.5, 0.9)) for name in ("first", "second", "third")}
    tree = ElementTree.parse(layer_picture(results, tmp_path / "layers.svg"))
    heights = sorted(float(t.get("y", 0)) for t in tree.iter() if t.text in results)
    assert all(below - above >= 18 for above, below in pairwise(heights))
