"""Distillation of series, from the command line to the step: a run teaches a smaller one; resuming changes nothing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.cli import main
from limbeck.evaluation.results import EvaluationResult
from limbeck.methods import DistillConfig, MethodConfig
from limbeck.modalities.series import MODALITY
from limbeck.series.encoder_io import load_encoder
from limbeck.series.loader import SeriesLoader
from limbeck.series.teacher import load_series_teacher
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.setup import build_distillation_inputs, prepare_teacher
from limbeck.train.config import TrainConfig
from tests.helpers.commands import Run
from tests.helpers.tiny import STEP, configs
from tests.helpers.tiny_series import CPU, tiny_encoder, waves

COUNT = 48
TEACHER = ["--backbone.hidden", "6", "--backbone.dim", "8", "--backbone.depth", "4", "--backbone.kernel-features", "84"]
STUDENT = ["--student.hidden", "3", "--student.dim", "4", "--student.depth", "3", "--student.kernel-features", "0"]
TRAINING = ["--precision", "fp32", "--optim.lr", "0.6", "--epochs", "12", "--teacher.val-images", "14"]
DISTILLERS = {
    name: config
    for name, config in configs().items()
    if isinstance(config, DistillConfig) and config.bag_spec() is None and config.only_on is None
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Series of two classes."""
    folder, found = tmp_path_factory.mktemp("series"), waves(COUNT)
    np.savez(folder / "train.npz", series=found.values, labels=np.array(["slow", "fast"])[found.labels])
    return folder / "train.npz"


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the default method."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    main(["pretrain", str(data), "--out", str(folder), "--epochs", "2", "--precision", "fp32", *TEACHER])
    return folder


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.parametrize("targets", ["view", "image"])
def test_a_run_teaches_a_smaller_one_and_resuming_changes_nothing(
    limbeck: Run, teacher: Path, data: Path, tmp_path: Path, targets: str
) -> None:
    run = tmp_path / "student"
    words = [*STUDENT, *TRAINING, "--teacher.targets", targets]
    code, _, err = limbeck("distill", data, "--teacher", teacher, "--out", run, *words)
    assert code == 0, err
    config = json.loads((run / "config.json").read_text())
    assert (config["method"]["name"], config["training"]["batch_size"]) == ("simreg", 8)
    student = load_encoder(run)
    assert (student.dim, len(student.taps)) == (4, 3)
    assert losses(run)[-1] < 0.9 * losses(run)[0]
    weights = (run / "encoder" / "model.safetensors").read_bytes()
    (run / "checkpoint.ckpt").unlink()
    assert limbeck("resume", run)[0] == 0
    assert (run / "encoder" / "model.safetensors").read_bytes() == weights
    for command in (
        ["evaluate", run, "--train", data, "--test", data, "--no-latency", "--beside", teacher],
        ["report", run, "--out", tmp_path / "report.html"],
    ):
        code, _, err = limbeck(*command)
        assert code == 0, err
    result = EvaluationResult.load(run / "result.json")
    assert result.comparison is not None
    assert [model.name for model in result.comparison.models] == ["student", "teacher", "untrained", str(teacher)]
    own, theirs, _, beside = (model.values for model in result.comparison.models)
    assert own["linear"] == result.layers[-1].values["linear"]
    assert {name: beside[name] for name in theirs} == theirs
    assert beside["neighbor_agreement"] == 1
    assert 0 < (own["neighbor_agreement"] or 0) < 1
    assert result.references[-1].name == str(teacher)
    assert "test series" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_runs_next_to_each_other_share_what_was_measured_once(limbeck: Run, teacher: Path, data: Path) -> None:
    words = ["--train", data, "--test", data, "--no-latency", "--json"]
    code, printed, err = limbeck("evaluate", teacher, teacher / "encoder", *words)
    assert code == 0, err
    names = [model["name"] for model in json.loads(printed)["references"]]
    assert [names[0], names[1], names[-1]] == ["untrained network", "raw series", str(teacher / "encoder")]
    code, printed, _ = limbeck("evaluate", teacher, "--beside", data, *words)
    assert code == 1
    assert str(data) in json.loads(printed)["error"]["message"]


def test_a_student_without_a_name_is_a_quarter_as_wide(limbeck: Run, teacher: Path, data: Path) -> None:
    code, out, err = limbeck("distill", data, "--teacher", teacher, "--print-config")
    assert code == 0, err
    found = json.loads(out)["backbone"]
    assert (found["name"], found["hidden"], found["dim"]) == ("dilated_conv", 16, 80)


@pytest.mark.parametrize("config", DISTILLERS.values(), ids=DISTILLERS.keys())
def test_every_distiller_compares_the_views_of_both_networks(
    config: MethodConfig, teacher: Path, tmp_path: Path
) -> None:
    assert isinstance(config, DistillConfig)
    series, frozen = waves(COUNT), load_series_teacher(TeacherConfig(name=str(teacher), val_images=10))
    context = prepare_teacher(frozen, series, TrainConfig(accelerator="cpu")).value
    cfg = config.with_teacher_defaults(context.centered_features)
    views = MODALITY.make_views(cfg, tiny_encoder().cfg)
    inputs = build_distillation_inputs(context, cfg, views, tmp_path)
    loader = SeriesLoader(series, inputs.views, 24, seed=3, device=CPU, sampling=inputs.sampling)  # type: ignore[arg-type]
    batch = next(loader.batches(0, 1))
    assert not set(batch.indices.tolist()) & set(context.val_indices.tolist())
    encoder = load_encoder(teacher)
    theirs = [index for index, view in enumerate(inputs.views) if view.network == "teacher"]
    for index, vector in zip(theirs, inputs.teacher(batch).vectors, strict=True):
        own = inputs.views[index].crop_of
        assert own is not None
        torch.testing.assert_close(batch.views[index], batch.views[own], rtol=0, atol=0, equal_nan=True)
        expected = F.normalize(encoder(batch.views[own]).final, dim=1)
        expected = expected - context.features.mean(0) if context.center else expected
        torch.testing.assert_close(vector, expected)
    method = cfg.build_distiller(tiny_encoder(), inputs.teacher)
    loss = method(batch, STEP)
    loss.total.backward()
    gradient = method.backbone.get_parameter("blocks.0.conv1.weight").grad
    assert loss.total.isfinite()
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert all(parameter.grad is None for parameter in frozen.network.parameters())


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--teacher", "timm:resnet18"], "timm:resnet18"),
        (["--teacher", "patch-filters"], "patch-filters"),
        (["--teacher", "TEACHER", "--teacher.depth", "9"], "9"),
        (["--teacher", "TEACHER", "--teacher.cached-views", "2"], "cached-views"),
        (["--teacher", "TEACHER", "--teacher.image-size", "64"], "image-size"),
        (["--teacher", "TEACHER", "--method", "bingo"], "bingo"),
        (["--teacher", "TEACHER", "--method.dense-weight", "1"], "dense-weight"),
        (["--teacher", "OTHER"], "3"),
    ],
    ids=["images", "filters", "depth", "cached", "size", "bags", "dense", "channels"],
)
def test_what_cannot_teach_series_is_refused(
    limbeck: Run, teacher: Path, data: Path, tmp_path: Path, words: list[str], value: str
) -> None:
    source = data
    if "OTHER" in words:  # series of other channels
        source = tmp_path / "three.npz"
        np.savez(source, series=np.random.default_rng(0).standard_normal((24, 20, 3)))
    places = {"TEACHER": str(teacher), "OTHER": str(teacher)}
    code, _, err = limbeck(
        "distill", source, "--out", tmp_path / "run", *STUDENT, *(places.get(word, word) for word in words)
    )
    assert code == 1, err
    assert value in err.splitlines()[-1]


def test_another_teacher_under_the_same_name_is_refused(
    limbeck: Run, teacher: Path, data: Path, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert limbeck("distill", data, "--teacher", teacher, "--out", run, *STUDENT, "--epochs", "1")[0] == 0
    assert limbeck("pretrain", data, "--out", other, "--epochs", "1", "--seed", "5", *TEACHER)[0] == 0
    (run / "checkpoint.ckpt").unlink()
    code, _, err = limbeck("resume", run, "--teacher", other)
    assert code == 1
    assert str(other) in err
