"""What a run takes where nothing is named: fitted to the machine, to the images, and to a time."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import limbeck
from limbeck.methods import method_config
from limbeck.modalities.images import MODALITY
from limbeck.modalities.images.sizes import resolve_small
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.runs import run_length, source_part
from limbeck.runs.choose import choose_recipe, fill
from limbeck.runs.config import read_config
from limbeck.runs.recipes import recipe_file
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import RunSetup, resolve_run
from limbeck.runs.source_part import FEW_IMAGES, few_images_advice, part_of_source
from limbeck.runs.training import prepare_run
from limbeck.teachers.config import PATCH_FILTERS
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.estimate import CostEstimate
from tests.helpers.distill import COUNT, NARROW, TRAINING, images
from tests.helpers.errors import raises
from tests.helpers.tiny import SIZES, shrink

SIMCLR = shrink(method_config("simclr")(), SIZES)
BACKBONE = BackboneConfig(name="resnet18", args=NARROW)
AUTO = replace(TRAINING, epochs="auto")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def request(**changes: Any) -> RunRequest:
    given: dict[str, Any] = {"source": images(), "training": TrainConfig(accelerator="cpu")}
    return RunRequest(**given | changes)


def test_on_a_cpu_a_run_is_small_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    setup = resolve_run(request())
    cfg = setup.cfg
    assert cfg.teacher is not None
    assert (cfg.teacher.name, cfg.method.name, setup.seconds) == (PATCH_FILTERS, "simreg", 600)
    assert (cfg.backbone, cfg.optim.lr) == (resolve_small(16, joined=True).value, 8e-3)
    for value in ("recipe laptop", "--method simclr", "vit_tiny_patch16_224", "10m", "--time 1h"):
        assert value in caplog.text
    with raises("time-too-short", "limbeck plan"):  # before a pass of the teacher, for which no time is left
        prepare_run(replace(setup, began=setup.began - 600), tmp_path / "run")


@pytest.mark.parametrize(
    "named",
    [
        {"method": SIMCLR},
        {"backbone": BACKBONE},
        {"optim": OptimConfig()},
        {"time": "2h"},
        {"training": TRAINING},
    ],
)
def test_what_names_a_part_or_is_long_trains_on_the_images_alone(named: dict[str, Any]) -> None:
    setup = resolve_run(request(**named))
    assert (setup.cfg.method.name, setup.cfg.teacher) == ("simclr", None)


def test_many_images_are_learnt_from_without_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.runs.choose.MANY_IMAGES", 100)
    cfg = resolve_run(request()).cfg
    assert (cfg.method, cfg.teacher) == (fill({}, recipe_file("contrast"))["method"], None)
    assert cfg.backbone == resolve_small(16, joined=True).value
    assert resolve_run(request(max_images=99)).cfg.teacher is not None
    monkeypatch.setattr(source_part, "FEWEST", 20)
    assert choose_recipe(request(time=0.1), "on a CPU", MODALITY).value.teacher is not None  # it reads a part


def test_a_classifier_is_not_joined() -> None:
    for method, joined in ((method_config("classifier")(), False), (SIMCLR, True)):
        asked = request(source=(images()[0], np.arange(COUNT) % 2), method=method, training=TRAINING)
        encoder = resolve_run(asked).cfg.backbone
        assert isinstance(encoder, BackboneConfig)
        assert (encoder.patch_filters > 0) == joined


def test_a_time_is_chosen_for_one_process_alone() -> None:
    for devices, chosen in ((1, "10m"), (2, None)):
        training = TrainConfig(accelerator="cpu", devices=devices)
        assert choose_recipe(request(training=training), "on a CPU", MODALITY).value.time == chosen


def test_a_run_with_a_time_takes_what_it_can_prepare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    monkeypatch.setattr(source_part, "FEWEST", 10)
    threads = torch.get_num_threads()
    assert part_of_source(request(), 90, MODALITY).max_images == 4500 * threads
    assert part_of_source(request(max_images=3), 90, MODALITY).max_images == 3
    assert part_of_source(request(), None, MODALITY).max_images is None
    store = limbeck.build_store(images(), tmp_path / "store")
    assert part_of_source(request(source=store.path), 90, MODALITY).max_images is None
    setup = resolve_run(request(time=0.4 / threads))
    assert setup.cfg.max_images == len(setup.data) == 20
    assert "20 images" in caplog.text
    assert "--max-images" in caplog.text


def test_few_images_are_advised_to_start_from_weights(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    resolve_run(request(method=SIMCLR, backbone=BACKBONE, training=TRAINING))
    assert "100 images alone" in caplog.text
    assert few_images_advice(request(start=StartConfig(name="timm:resnet18")), 100) is None
    assert few_images_advice(request(), FEW_IMAGES + 1) is None


def test_on_a_gpu_nothing_is_given_up_unless_a_quick_look_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.runs.defaults.has_cuda", lambda: True)
    cfg = resolve_run(request(training=TrainConfig())).cfg
    assert (cfg.method.name, cfg.backbone.name) == ("simclr", "vit_tiny_patch16_224")
    quick = resolve_run(request(training=TrainConfig(), quick=True))
    assert (quick.cfg.method.name, quick.cfg.backbone, quick.seconds) == (
        "simreg",
        resolve_small(16, joined=True).value,
        600,
    )


def test_what_is_named_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    cfg = resolve_run(request(method=SIMCLR, backbone=BACKBONE, training=TRAINING)).cfg
    assert (cfg.method, cfg.backbone.name, cfg.training) == (SIMCLR, "resnet18", TRAINING)
    assert "on a CPU" not in caplog.text


def test_large_images_become_small_ones() -> None:
    assert resolve_small(256).value.image_size == 96
    assert "224 x 224" in resolve_small(256).reasons[-1]
    assert resolve_small(32).value.image_size == 32
    assert len(resolve_small(32).reasons) == 1


def test_a_set_smaller_than_the_batch_takes_a_smaller_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    assert resolve_run(request()).cfg.training.batch_size == 64
    assert "batch size 64 instead of 256" in caplog.text


def estimated(monkeypatch: pytest.MonkeyPatch, seconds_per_step: float) -> None:
    """Let every step take so long."""

    def estimate(*args: Any, **kwargs: Any) -> CostEstimate:
        return CostEstimate(
            images_per_second=20 / seconds_per_step,
            memory=1,
            largest_batch=20,
            tried=False,
            steps=10,
            seconds=10 * seconds_per_step,
            store_bytes=0,
            run_bytes=1,
        )

    monkeypatch.setattr(run_length, "estimate_cost", estimate)


def test_a_time_becomes_epochs_which_the_run_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    estimated(monkeypatch, seconds_per_step=2.0)
    run = limbeck.pretrain(images(), tmp_path / "run", backbone=BACKBONE, method=SIMCLR, training=AUTO, time="50s")
    assert read_config(Path(run)).training.epochs == 23 / 5  # 23 steps of 2 s, and 5 steps are an epoch
    assert (run / "metrics.csv").read_text().splitlines()[-1].startswith("23,")
    for value in ("time 50 s: 23 steps of 2.0 s", "cost: 46 s for 23 steps"):
        assert value in caplog.text


def test_a_plan_for_a_time_counts_the_steps_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    estimated(monkeypatch, seconds_per_step=2.0)
    found = limbeck.plan(images(), backbone=BACKBONE, method=SIMCLR, training=AUTO, time=50)
    assert (found.steps, found.seconds) == (23, 46)
    assert limbeck.plan(images(), backbone=BACKBONE, method=SIMCLR, training=TRAINING).steps == 5 * TRAINING.epochs


def test_a_plan_does_not_count_what_a_run_would_find_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    estimated(monkeypatch, seconds_per_step=2.0)

    def resolved_long_ago(wanted: RunRequest) -> RunSetup:
        return replace(resolve_run(wanted), began=time.monotonic() - 3600)

    monkeypatch.setattr("limbeck.runs.api.resolve_run", resolved_long_ago)
    assert limbeck.plan(images(), backbone=BACKBONE, method=SIMCLR, training=AUTO, time=100).steps == 47


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"time": "soon"}, "bad-time"),
        ({"time": "30m", "training": TRAINING}, "time-and-epochs"),
        ({"time": "30m", "training": TrainConfig(devices=2)}, "time-with-processes"),
    ],
)
def test_a_time_that_cannot_be_planned_is_refused_before_the_images_are_opened(
    changes: dict[str, Any], code: str
) -> None:
    with raises(code):
        resolve_run(request(source="nowhere", **changes))


def test_too_short_a_time_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimated(monkeypatch, seconds_per_step=2.0)
    with raises("time-too-short", "43s"):
        limbeck.pretrain(images(), tmp_path / "run", backbone=BACKBONE, method=SIMCLR, training=AUTO, time=1)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_over_has_nothing_left_to_train(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    run = limbeck.pretrain(images(), tmp_path / "run", backbone=BACKBONE, method=SIMCLR, training=TRAINING)
    assert "training on" in caplog.text
    caplog.clear()
    limbeck.resume(run)
    assert "training on" not in caplog.text
