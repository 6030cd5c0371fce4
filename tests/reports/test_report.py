"""The report: the content of the page, and what is refused."""

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli import main, training
from limbeck.cli.command import Output
from limbeck.core.errors import UserError
from limbeck.core.files import write_json
from limbeck.evaluation.adaptation import Adaptation, Figure
from limbeck.evaluation.results import ImageSet, ModelScores
from limbeck.evaluation.verdict import cheapest_cut
from limbeck.methods import MethodConfig, method_config
from limbeck.methods.config.anchor import AnchorConfig
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.models.start import start_form
from limbeck.reports.command import run_command
from limbeck.reports.page import write_report
from limbeck.reports.sections import by_scale
from limbeck.runs import api as run_module
from limbeck.runs.config import RunConfig
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig
from tests.helpers.errors import raises
from tests.helpers.folders import limbeck_run
from tests.helpers.written_runs import METRICS, MOCO, SDSSL, body, make_run, result, run_config, with_its_teacher


def test_two_runs_are_on_one_page(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", judged=result(), metrics=METRICS)
    second = make_run(tmp_path / "second", judged=result((0.4, 0.5, 0.95)), metrics=METRICS)
    page = write_report([first, second], tmp_path / "new" / "report.html")
    assert [file.name for file in page.parent.iterdir()] == ["report.html"]
    text = body(page)
    assert "effective rank" not in text, "a chart without numbers"
    for part in (
        "sdssl over mocov3",
        "can be cut at layer 2 of 3",
        "89.3 %<small>± 4.9</small>",
        "<b>first</b>: layer 2 of 3 reaches 89.3 % (the whole network 90.0 %) with 67% of the parameters",
        "<b>second</b>: only the whole network, 3 layers",
    ):
        assert part in text, part
    assert text.count(">untrained, %</th>") == 2
    for caption in ("k\u2011NN", "k-NN by latency", "k-NN by GFLOPs", "first: loss", "learning rate"):
        assert caption in text, caption


def test_the_accuracy_stands_next_to_the_lines_of_reference(tmp_path: Path) -> None:
    others = (("raw pixels", 0.3), ("patch filters", 0.9), ("untrained network", 0.99))
    references = tuple(ModelScores(name=name, image_size=28, values={"knn": knn}) for name, knn in others)
    judged = [result(references=references), result((0.2, 0.3, 0.8), references=references)]
    runs = [make_run(tmp_path / str(number), judged=one) for number, one in enumerate(judged)]
    text = body(write_report(runs[:1], tmp_path / "one.html"))
    assert "better than raw pixels, level with patch filters and its untrained self" in text
    both = body(write_report(runs, tmp_path / "two.html"))
    names = re.findall(r"<li[^>]*--c:[^>]*><span>([^<]*)</span>", both)
    assert names == ["0, layer 2", "1, layer 3", *(name for name, _ in others)], "references once"
    assert 'style="width:30.0%"' in both


def test_mistakes_of_the_probe_are_a_matrix_of_few_classes_and_a_list_of_many(tmp_path: Path) -> None:
    few = result(confusions=((0, 0, 30), (0, 1, 10), (1, 1, 20)), classes=("cat", "<dog>"))
    text = (write_report([make_run(tmp_path / "few", judged=few)], tmp_path / "few.html")).read_text()
    cells = re.findall(r'<td class="(right|wrong)" style="--share:([\d.]+)">(\d*)</td>', text)
    assert cells == [
        ("right", "0.750", "30"),
        ("wrong", "0.250", "10"),
        ("wrong", "0.000", ""),
        ("right", "1.000", "20"),
    ]
    assert "<dog>" not in text
    assert "83.3 % right" in text
    names = tuple(f"class {number}" for number in range(30))
    many = result(confusions=((0, 0, 5), (3, 4, 2), (3, 7, 6)), classes=names)
    text = body(write_report([make_run(tmp_path / "many", judged=many)], tmp_path / "many.html"))
    assert "confusions" not in text
    assert text.index("class 7") < text.index("class 4")
    with raises("not-a-result", "9"):
        result(confusions=((0, 9, 1),))


def test_fewer_than_three_readings_are_numbers_and_no_chart(tmp_path: Path) -> None:
    few = body(write_report([make_run(tmp_path / "few", metrics=METRICS)], tmp_path / "few.html"))
    assert "<svg" not in few
    assert "epoch 1: 9, epoch 2: 8" in few
    more = METRICS + "30,3.0,0.0002,7.5,1.5,1.6,\n"
    text = body(write_report([make_run(tmp_path / "more", metrics=more)], tmp_path / "more.html"))
    assert text.count("<svg") == 3, "loss with its terms in two scales, learning rate"
    assert "<figcaption>k-NN accuracy" in text
    assert ">epoch 2: 87.5 %<" in text


def test_settings_are_shown_and_differences_marked(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    other = make_run(tmp_path / "other", config=dataclasses.replace(run_config(), training=TrainConfig(epochs=7)))
    alone = body(write_report([one], tmp_path / "one.html"))
    assert 'class="differs"' not in alone
    assert '<th scope="row">training.epochs</th><td>100' in alone
    both = body(write_report([one, other], tmp_path / "both.html"))
    assert both.count('class="differs"') == 1
    assert '<tr class="differs"><th scope="row">training.epochs</th><td>100</td><td>7</td>' in both


def test_a_latency_that_falls_with_depth_is_gray(tmp_path: Path) -> None:
    noisy = result()
    layers = tuple(
        dataclasses.replace(layer, values=layer.values | {"latency_ms": ms})
        for layer, ms in zip(noisy.layers, (1.5, 0.25, 2.5), strict=True)
    )
    judged = dataclasses.replace(noisy, layers=layers, comparison=with_its_teacher())
    text = body(write_report([make_run(tmp_path / "run", judged=judged)], tmp_path / "report.html"))
    assert text.count('<span class="noise"') == 1, "and none among models, which are in no order"
    assert ">0.25</span>" in text


def test_what_users_named_is_escaped(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>&amp;"
    config = run_config(store=f"photos/{evil}", method=MOCO())
    judged = result(hardware={"device": evil}, comparison=with_its_teacher())
    metrics = METRICS.replace("layer1", evil)
    text = body(
        write_report([make_run(tmp_path / evil, config=config, judged=judged, metrics=metrics)], tmp_path / "r")
    )
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;amp;" in text
    assert "<script" not in text


def test_a_run_in_progress_shows_its_training_and_the_commands_that_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    training = body(write_report([make_run(tmp_path / "a run", metrics=METRICS)], tmp_path / "report.html"))
    assert "limbeck resume &#39;a run&#39;" in training
    assert "87.5 %" in training
    assert "a run: loss" in training
    assert "Accuracy of each layer" not in training
    assert "has not been evaluated" in training
    (tmp_path / "a run" / "encoder").mkdir()
    done = body(write_report([tmp_path / "a run"], tmp_path / "report.html"))
    assert "limbeck resume" not in done
    assert "limbeck evaluate &#39;a run&#39; --train LABELED/train --test LABELED/test" in done


def test_health_has_charts_and_a_sentence_and_is_no_term_of_the_loss(tmp_path: Path) -> None:
    log = METRICS.replace(",knn\n", ",knn,embedding_rank,embedding_std,dead_units,weight_norm\n")
    log = log.replace("3.1,\n", "3.1,,20.5,0.9,0.0,7.0\n").replace("0.875\n", "0.875,21.5,0.8,0.0,8.0\n")
    run = make_run(tmp_path / "run", metrics=log)
    (run / "health.json").write_text(json.dumps({"sentence": "healthy: <b>very</b>"}))
    text = body(write_report([run], tmp_path / "report.html"))
    assert "<h2>Health" in text
    assert "healthy: &lt;b&gt;very&lt;/b&gt;" in text
    for caption, shown in (("embeddings: standard deviation", True), ("EMA encoder", False)):
        assert (caption in text) == shown
    assert text.count("<figcaption>run: ") == 2
    assert "weight_norm" not in text
    (run / "health.json").write_text("[]")
    with raises("not-a-health-file", "health.json"):
        write_report([run], tmp_path / "report.html")


def test_a_distilled_run_is_compared_with_its_teacher_and_others_are_not(tmp_path: Path) -> None:
    log = METRICS.replace(",knn\n", ",knn,neighbor_agreement,neighbor_agreement_chance,cka\n")
    log = log.replace("3.1,\n", "3.1,,0.4,0.1,0.5\n")
    log = log.replace("0.875\n", "0.875,0.6,0.1,0.7\n")
    distilled = make_run(tmp_path / "distilled", judged=result(comparison=with_its_teacher()), metrics=log)
    plain = make_run(tmp_path / "plain", judged=result(), metrics=METRICS)
    text = body(write_report([plain, distilled], tmp_path / "report.html"))
    assert text.count("<h2>Student and teacher") == text.count(">neighbor agreement, %</th>") == 1
    row = "".join(f"<td>{cell}</td>" for cell in ("0.0500", "0.400", "1.00", "91.2", "80.0", "0.90"))
    assert f'<th scope="row">student</th>{row}' in text
    assert "<b>distilled</b>: the student preserves 80\u00a0% of the teacher&#39;s" in text
    assert text.count("<figcaption>distilled: ") == text.count("<figcaption>plain: "), "no terms of a loss"
    assert "<figcaption>CKA with the teacher" in text
    assert "neighbor_agreement_chance" not in text
    alone = body(write_report([plain], tmp_path / "report.html"))
    for absent in ("Student and teacher", "CKA", "teacher&#39;s"):
        assert absent not in alone


def test_a_run_that_logged_nothing_and_one_without_labels(tmp_path: Path) -> None:
    silent = make_run(tmp_path / "silent", judged=result((None, None, None), classes=()))
    text = body(write_report([silent], tmp_path / "report.html"))
    assert "no metrics.csv" in text
    assert "<h2>Training" not in text
    assert "<h2>Accuracy of each layer" in text
    assert "NN, %" not in text


def test_runs_of_one_name_are_told_apart_and_other_test_images_are_said(tmp_path: Path) -> None:
    other = ImageSet(path=None, images=40, digest="other")
    lines = (ModelScores(name="raw pixels", image_size=28, values={"knn": 0.3}),)
    first = make_run(tmp_path / "a" / "run", judged=result(references=lines))
    second = make_run(tmp_path / "b" / "run", judged=result(test=other, references=lines))
    text = body(write_report([first, second], tmp_path / "report.html"))
    assert "<h2>a/run</h2>" in text
    assert "<h2>b/run</h2>" in text
    assert "evaluated on different images" in text
    assert [f"raw pixels ({name}/run)" in text for name in "ab"] == [True, True]


def test_what_is_no_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", metrics=METRICS)
    with raises("no-run"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(UserError, match=str(tmp_path)):
        write_report([run, tmp_path], tmp_path / "report.html")
    with raises("out-is-a-folder", tmp_path):
        write_report([run], tmp_path)
    for damaged in ("step,epoch\n1,one\n", "a,b\n1,2\n"):
        (run / "metrics.csv").write_text(damaged)
        with raises("not-a-training-log", run / "metrics.csv"):
            write_report([run], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "method",
    [
        MOCO(ema_momentum=0.9, trailing_norm=False, views="weak"),
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
    monkeypatch.setattr(training, "_finished", lambda run: Output({}, []))
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
        teacher=TeacherConfig(name="runs/big", image_size=64, center=True, val_images=5, license="mit", cached_views=2),
    )
    seen: dict[str, Any] = {}
    monkeypatch.setattr(training, "_finished", lambda run: Output({}, []))
    monkeypatch.setattr(run_module, "distill", lambda source, out, **given: seen.update(given, source=source, out=out))
    main(shlex.split(run_command(config, "runs/again"))[1:])
    assert (seen["source"], seen["out"]) == ("a store", "runs/again")
    wanted = [config.method, config.backbone, config.optim, config.training, config.teacher]
    assert [seen[key] for key in ("method", "student", "optim", "training", "teacher")] == wanted


@pytest.mark.parametrize("verb", ["pretrain", "adapt"])
def test_the_command_on_the_page_repeats_a_run_from_weights(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limbeck_run(tmp_path / "start", name="resnet18")
    start = StartConfig(name=str(tmp_path / "start"))
    config = RunConfig(
        store="a store",
        digest="d",
        method=AnchorConfig(distance_weight=3.0) if verb == "adapt" else MOCO(ema_momentum=0.9),
        backbone=start_form(start.name),
        optim=OptimConfig(lr=5e-5, weight_decay=0.02),
        training=TrainConfig(epochs=3, batch_size=64),
        teacher=TeacherConfig(name="start") if verb == "adapt" else None,
        start=start,
    )
    seen: dict[str, Any] = {}
    monkeypatch.setattr(training, "_finished", lambda run: Output({}, []))
    monkeypatch.setattr(run_module, verb, lambda source, out, **given: seen.update(given, source=source, out=out))
    main(shlex.split(run_command(config, "runs/again"))[1:])
    wanted = [config.method, config.backbone, config.optim, config.training, config.start]
    assert [seen[key] for key in ("method", "backbone", "optim", "training", "start")] == wanted
    assert "teacher" not in seen


def test_an_adaptation_has_its_verdict_at_the_top(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", metrics=METRICS)
    knn = Figure(start=0.525, adapted=0.505, stderr=0.02)
    Adaptation(verdict="not better", weights="start", images=200, bank=800, knn=knn).save(run / "adaptation.json")
    text = body(write_report([run], tmp_path / "report.html"))
    for part in ("not better than the start", "from 52.5 to 50.5 %", "-2.0 ± 2.0", "the weights of the start"):
        assert part in text, part


def test_a_fine_tuned_run_says_how_accurate_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", metrics=METRICS)
    before = body(write_report([run], tmp_path / "before.html"))
    found = {"labels": 80, "classes": 2, "test_images": 40, "accuracy": 0.5, "stderr": 0.079}
    found |= {"frozen": 0.625, "frozen_stderr": 0.077}
    write_json(run / "finetuning.json", {"run": "runs/ft", "start": "runs/a", **found})
    text = body(write_report([run], tmp_path / "report.html"))
    assert [part for part in ("80 labels", "50.0% ± 7.9%", "62.5% ± 7.7%") if part not in text] == []
    assert "not been evaluated" in before
    assert "not been evaluated" not in text


def test_nothing_is_cut_by_accuracies_that_are_not_known() -> None:
    assert cheapest_cut(result((None, None))) is None


def test_terms_share_a_chart_with_terms_of_their_size() -> None:
    last = {"lr": 1.0, "loss": 20.0, "a": 3.0, "predictor": 16.0, "b": 3.5, "tiny": 0.1}
    groups = by_scale({name: [(1.0, 99.0), (2.0, value)] for name, value in last.items()})
    assert [list(group) for group in groups] == [["loss", "predictor"], ["a", "b"], ["tiny"]]
    assert by_scale({}) == []
