"""From a request to a run: what is chosen and why, one road for new and resumed runs, and the log of a run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import limbeck
from limbeck.methods import method_config
from limbeck.modalities.images.sizes import SMALL_NETWORK
from limbeck.models.config import BackboneConfig
from limbeck.runs.config import read_config, write_config
from limbeck.runs.defaults import DISTILL_OPTIM, default_optim
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import reopen_run, resolve_run
from limbeck.runs.training import fresh_encoder
from limbeck.train.config import OptimConfig, TrainConfig
from tests.helpers.distill import COUNT, CUSTOM, NARROW, TRAINING, Quarters, images, small
from tests.helpers.errors import raises
from tests.helpers.tiny import SIZES, shrink

SIMCLR = shrink(method_config("simclr")(), SIZES)
BACKBONE = BackboneConfig(name="resnet18", args=NARROW)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def request() -> RunRequest:
    return RunRequest(source=images(), method=SIMCLR, backbone=BACKBONE, training=TRAINING)


def test_what_is_left_out_is_chosen_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    setup = resolve_run(replace(request(), method=method_config("mocov2")()))
    cfg = setup.cfg
    assert cfg.optim == default_optim("resnet18")
    assert getattr(cfg.backbone, "image_size") == 16  # noqa: B009 - a modality's own field
    queue = getattr(cfg.method, "queue_size")  # noqa: B009
    assert queue <= COUNT
    chosen = f"queue_size set to {queue} instead of 65536"
    for value in ("16 x 16", chosen, "100 images in batches of 20", "mocov2 on 100"):
        assert value in caplog.text


def test_with_a_teacher_the_defaults_are_those_of_a_distillation() -> None:
    setup = resolve_run(RunRequest(source=images(), teacher=CUSTOM, teacher_module=Quarters(), training=TRAINING))
    cfg = setup.cfg
    assert (cfg.method.name, cfg.backbone.name, cfg.optim) == ("simreg", SMALL_NETWORK, DISTILL_OPTIM)
    assert setup.teacher is not None
    assert (setup.num_images, len(setup.teacher.val_indices)) == (90, 10)
    assert cfg.teacher is not None
    assert cfg.teacher.center is not None


def test_a_distiller_without_a_teacher_is_refused_before_the_images_are_opened() -> None:
    with raises("teacher-needed", "limbeck distill --method seed"):
        resolve_run(RunRequest(source="nowhere", method=small("seed")))


def test_a_missing_tracker_is_refused_before_the_images_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.train.loggers.find_spec", lambda name: None)
    with raises("missing-package", "limbeck[wandb]"):
        resolve_run(RunRequest(source="nowhere", training=TrainConfig(loggers=("wandb",))))


def test_a_reopened_run_is_the_one_that_was_resolved(tmp_path: Path) -> None:
    setup = resolve_run(request())
    (tmp_path / "run").mkdir()
    write_config(tmp_path / "run", setup.cfg)
    assert read_config(tmp_path / "run") == setup.cfg
    reopened = reopen_run(tmp_path / "run")
    assert (reopened.cfg, reopened.data.digest) == (setup.cfg, setup.data.digest)
    first, second = (fresh_encoder(cfg).state_dict() for cfg in (setup.cfg, reopened.cfg))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_data_that_are_gone_or_have_changed_are_refused(tmp_path: Path) -> None:
    cfg = resolve_run(request()).cfg
    (tmp_path / "run").mkdir()
    for changed, code in ((replace(cfg, store=""), "data-gone"), (replace(cfg, digest="other"), "store-changed")):
        write_config(tmp_path / "run", changed)
        with raises(code, tmp_path / "run"):
            reopen_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "code"), [(None, "not-a-run"), ("{", "not-json"), ("[]", "not-a-mapping"), ("{}", "missing-key")]
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None, code: str) -> None:
    if content:
        (tmp_path / "config.json").write_text(content)
    with raises(code, "config.json"):
        read_config(tmp_path)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with raises("milestone-after-end", 120):
        resolve_run(replace(request(), optim=OptimConfig(milestone_epochs=(120,))))


def test_the_log_of_a_run_has_its_choices_its_verdict_and_its_resumption(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", images=images()[0])
    run = limbeck.pretrain(
        tmp_path / "digits.npz", tmp_path / "run", backbone=BACKBONE, method=SIMCLR, training=TRAINING
    )
    log = (run / "log.txt").read_text()
    for value in ("input size 16 x 16", "simclr on 100 images", "training on", "since the warm-up"):
        assert log.count(value) == 1
    limbeck.resume(run)
    assert (run / "log.txt").read_text().startswith(log)
    resumed = (run / "log.txt").read_text().removeprefix(log)
    assert "training on" not in resumed  # every step has been taken
    assert "2 epochs" in resumed


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    with raises("run-exists", f"`limbeck resume {tmp_path}`"):
        limbeck.pretrain(images(), tmp_path)


def test_a_plan_writes_no_run_and_counts_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    training = replace(TRAINING, devices=2, epochs=3)
    estimate = limbeck.plan(images(), backbone=BACKBONE, method=SIMCLR, training=training)
    assert estimate.steps == 15
    assert estimate.seconds > 0
    assert estimate.largest_batch % 2 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_wrong_name_is_refused_before_any_image_is_decoded(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"  # opening it would be another error
    with raises("unknown-backbone", "resnet81", "resnet18"):
        resolve_run(RunRequest(source=nowhere, backbone=BackboneConfig(name="resnet81")))
