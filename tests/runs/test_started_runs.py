"""Runs that start from trained weights: the first step begins with them, and the rest is a run like any other."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import limbeck
from limbeck.core.types import LossOutput, StepInfo
from limbeck.evaluation.config import EvaluateConfig
from limbeck.methods import method_config
from limbeck.methods.simclr import SimCLR
from limbeck.modalities.keypoints import MODALITY
from limbeck.models.config import StartConfig
from limbeck.models.encoder_io import load_preprocessing
from limbeck.models.pretrained import NetworkRef, load_pretrained
from limbeck.runs.config import read_config
from limbeck.runs.evaluation import evaluate_networks
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import resolve_run
from limbeck.runs.run_length import fit_to_time
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.interrupt import Interrupted
from tests.helpers.commands import Run
from tests.helpers.distill import COUNT, CUSTOM, Quarters, images, small
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, STD, limbeck_run, save_timm, timm_resnet
from tests.helpers.tiny import SIZES, shrink

SIMCLR = shrink(method_config("simclr")(), SIZES)
TRAINING = TrainConfig(epochs=2, batch_size=25, eval_every_epochs=1, precision="fp32")  # 8 steps


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Start SimCLR on 100 digits from a Limbeck encoder with a normalization of its own, unless settings differ."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    limbeck_run(tmp_path / "start", name="resnet18")
    np.savez(tmp_path / "digits.npz", images=images()[0], labels=np.arange(COUNT) % 2)

    def run(name: str = "run", **settings: Any) -> Path:
        usual: dict[str, Any] = {"start": tmp_path / "start", "method": SIMCLR, "training": TRAINING}
        return Path(limbeck.pretrain(tmp_path / "digits.npz", tmp_path / name, **(usual | settings)))

    return run


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_it_begins_with_the_weights_and_records_where_they_are_from(begin: Callable[..., Path], tmp_path: Path) -> None:
    run = begin()
    assert equal(weights(run / "start"), weights(tmp_path / "start" / "encoder"))
    assert not equal(weights(run / "encoder"), weights(run / "start"))
    found = read_config(run).start
    assert found is not None
    assert (found.name, len(found.digest)) == (str(tmp_path / "start"), 64)
    for folder in (run, run / "start"):
        preprocessing = load_preprocessing(folder)
        assert (preprocessing.mean, preprocessing.std, preprocessing.image_size) == (MEAN, STD, 32)


def test_the_first_step_sees_the_weights_and_their_normalization(
    begin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        "limbeck.runs.training.train",
        lambda method, data, views, *rest, **more: given.update(method=method, views=views),
    )
    begin()
    start = load_pretrained(NetworkRef(str(tmp_path / "start"))).backbone.state_dict()
    assert equal(dict(given["method"].backbone.state_dict()), dict(start))
    assert {(view.augmentation.mean, view.augmentation.std) for view in given["views"]} == {(MEAN, STD)}


def test_the_learning_rate_is_gentle_and_the_reason_is_printed(
    begin: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    config = read_config(begin())
    assert config.optim.name == "adamw"
    assert config.optim.lr < OptimConfig().lr
    warmup = config.training.warmup_epochs
    assert warmup is not None
    assert warmup > config.training.num_epochs / 10
    assert "--optim.lr" in caplog.text
    assert "--warmup-epochs" in caplog.text
    given = replace(TRAINING, warmup_epochs=0.5)
    caplog.clear()
    config = read_config(begin("given", optim=OptimConfig(lr=0.01), training=given))
    assert (config.optim.lr, config.training.warmup_epochs) == (0.01, 0.5)
    assert "--optim.lr" not in caplog.text


def test_a_time_keeps_the_share_of_the_warm_up(tmp_path: Path) -> None:
    limbeck_run(tmp_path, name="resnet18")
    training = replace(TRAINING, epochs="auto")
    start = StartConfig(name=str(tmp_path))
    setup = resolve_run(RunRequest(source=images(), start=start, method=SIMCLR, training=training, time=60.0))
    measured: Any = SimpleNamespace(seconds=1.0, steps=4)
    fitted = fit_to_time(setup, measured).cfg.training
    assert fitted.warmup_epochs == pytest.approx(0.2 * fitted.num_epochs)
    assert fitted.num_epochs != setup.cfg.training.num_epochs


def test_it_resumes_bit_for_bit_without_the_start(
    begin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = begin("whole")
    usual = SimCLR.after_step

    def stop(self: SimCLR, loss: LossOutput, step_info: StepInfo) -> None:
        usual(self, loss, step_info)
        if step_info.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "after_step", stop)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            begin("stopped")
    shutil.rmtree(tmp_path / "start")
    limbeck.resume(tmp_path / "stopped")
    assert equal(weights(tmp_path / "stopped" / "encoder"), weights(whole / "encoder"))


def test_a_configuration_alone_repeats_the_run(begin: Callable[..., Path], tmp_path: Path) -> None:
    whole = begin("whole")
    (tmp_path / "again").mkdir()
    shutil.copy(whole / "config.json", tmp_path / "again")
    limbeck.resume(tmp_path / "again")
    assert equal(weights(tmp_path / "again" / "encoder"), weights(whole / "encoder"))
    assert equal(weights(tmp_path / "again" / "start"), weights(whole / "start"))


def test_other_weights_in_the_place_of_the_start_are_refused(begin: Callable[..., Path], tmp_path: Path) -> None:
    run = begin()
    shutil.rmtree(run / "start")
    limbeck_run(tmp_path / "start", name="vit_tiny_patch16_224")
    with raises("start-contradicted", "resnet18"):
        limbeck.resume(run)


def test_an_evaluation_has_a_line_for_the_start_of_each_run(begin: Callable[..., Path], tmp_path: Path) -> None:
    runs = [str(begin(name)) for name in ("a", "b")]
    cfg = EvaluateConfig(linear="none", latency=False, alignment_images=20, k=5)
    data = tmp_path / "digits.npz"
    found = evaluate_networks(runs, data, data, cfg)
    for result in found.results.values():
        names = [model.name for model in result.references]
        assert names.count(f"start: {tmp_path / 'start'}") == 1
        assert "untrained network" in names
    assert len([model for model in found.models if ", start: " in model.name]) == 2
    assert f"start: {tmp_path / 'start'} (" in found.results[runs[0]].verdict


def test_a_student_starts_too_and_both_licenses_travel(begin: Callable[..., Path], tmp_path: Path) -> None:
    save_timm(timm_resnet(), tmp_path / "timm")
    run = limbeck.distill(
        tmp_path / "digits.npz",
        tmp_path / "run",
        teacher=replace(CUSTOM, license="mit"),
        teacher_module=Quarters(),
        start=tmp_path / "timm",
        method=small("simreg"),
        training=TRAINING,
        student_image_size=32,
    )
    config = read_config(Path(run))
    assert config.start is not None
    assert (config.start.license, config.optim.lr) == ("apache-2.0", 2e-4)
    assert load_pretrained(NetworkRef(str(run))).license == "mit, apache-2.0"


def test_encoders_of_other_data_have_no_starts() -> None:
    with raises("no-starts", "keypoints", "x.pth"):
        MODALITY.load_start(StartConfig(name="x.pth"), None)


def test_the_command_line_takes_the_network_of_the_start(
    limbeck: Run, begin: Callable[..., Path], tmp_path: Path
) -> None:
    data, start = tmp_path / "digits.npz", tmp_path / "start"
    argv = ["pretrain", data, "--from", start, "--method", "simclr", "--batch-size", "20", "--print-config"]
    code, out, _ = limbeck(*argv)
    config = json.loads(out)
    assert (code, config["backbone"]["name"], config["backbone"]["image_size"]) == (0, "resnet18", 32)
    assert (config["start"]["name"], config["backbone"]["mean"]) == (str(start), list(MEAN))
    assert config["optim"]["lr"] < OptimConfig().lr
    code, out, _ = limbeck(*argv, "--backbone", "resnet18", "--backbone.image-size", "64", "--optim.lr", "0.5")
    config = json.loads(out)
    assert (config["backbone"]["image_size"], config["backbone"]["small_stem"], config["optim"]["lr"]) == (
        64,
        False,
        0.5,
    )
    for wrong, error in [
        (["--backbone", "resnet34"], "start-contradicted"),
        (["--backbone.small-stem", "True"], "start-contradicted"),
        (["--from", "nowhere.pth"], "start-without-network"),
        (["--from", "nowhere"], "unknown-network"),
    ]:
        code, out, _ = limbeck(*argv, *wrong, "--json")
        assert (code, json.loads(out)["error"]["code"]) == (1, error)
