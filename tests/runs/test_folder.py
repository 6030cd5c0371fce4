"""The folder of a run: it is nobody else's, also where two commands start at once, and it may move with its data."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import limbeck
from limbeck.core.run_folder import CHECKPOINT, CONFIG, HEALTH, LOG, METRICS, RESULT
from limbeck.methods import method_config
from limbeck.models.config import BackboneConfig
from limbeck.runs import api
from limbeck.runs.config import at_place, read_config
from limbeck.runs.folder import check_new_run
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import RunSetup, resolve_run
from limbeck.train.checkpoint import identity
from tests.helpers.distill import NARROW, TRAINING
from tests.helpers.errors import raises
from tests.helpers.tiny import SIZES, shrink

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
SIMCLR = shrink(method_config("simclr")(), SIZES)
BACKBONE = BackboneConfig(name="resnet18", args=NARROW)
SHORT = replace(TRAINING, epochs=1, batch_size=20, log_every_steps=1, health_every_steps=1)


def pretrain(store: Path, run: Path) -> Path:
    return limbeck.pretrain(store, run, method=SIMCLR, backbone=BACKBONE, training=SHORT).path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    limbeck.build_store(IMAGES, tmp_path / "project" / "store")
    return tmp_path / "project" / "store"


@pytest.mark.parametrize("name", ["metrics.csv", "log.txt", "thesis.md", "encoder/config.json", "teacher/mine.txt"])
def test_files_of_the_users_keep_a_new_run_away(tmp_path: Path, store: Path, name: str) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("step,weight\n0,1\n100,2\n")
    with raises("folder-not-empty", name.split("/")[0], tmp_path / "mine"):
        pretrain(store, tmp_path / "mine")
    assert file.read_text() == "step,weight\n0,1\n100,2\n"
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [file]


def test_what_an_earlier_start_left_is_no_obstacle(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in (".lock", ".config.json.0123abcd.unfinished", "teacher/cache.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
    check_new_run(run)
    assert sorted(os.listdir(run)) == [".lock", "teacher"]


def test_a_run_that_began_in_between_is_left_alone(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second command was started first, and waited for its images."""
    run = tmp_path / "run"

    def slow(request: RunRequest) -> RunSetup:
        monkeypatch.undo()
        pretrain(store, run)
        return resolve_run(request)

    monkeypatch.setattr(api, "resolve_run", slow)
    with raises("run-exists", run):
        limbeck.pretrain(store, run, method=SIMCLR, backbone=BACKBONE, training=replace(SHORT, epochs=2))
    assert read_config(run).training.epochs == 1
    assert "ERROR" not in (run / LOG).read_text()
    before = (run / METRICS).read_bytes()
    limbeck.resume(run)
    assert (run / METRICS).read_bytes() == before


def test_a_run_continues_where_its_project_has_moved(tmp_path: Path, store: Path) -> None:
    pretrain(store, store.with_name("run"))
    moved = tmp_path / "elsewhere"
    shutil.move(store.parent, moved)
    with raises("store-missing", store, "--store"):
        limbeck.resume(moved / "run")
    assert limbeck.resume(moved / "run", store=moved / "store", precision="fp32").path == moved / "run"
    assert read_config(moved / "run").store == str(moved / "store")
    limbeck.resume(moved / "run")
    shutil.move(moved / "store", moved / "gone")  # as a cache that was emptied
    limbeck.build_store((IMAGES, np.arange(len(IMAGES)) % 2), labeled := tmp_path / "labeled")
    found = limbeck.evaluate(moved / "run", labeled, labeled, references=False, linear="none", k=1)
    assert (moved / "run" / RESULT).is_file()
    assert found.layers


def test_a_resumed_run_that_is_over_says_what_it_said(tmp_path: Path, store: Path) -> None:
    run = pretrain(store, tmp_path / "run")
    before = (run / HEALTH).read_bytes()
    limbeck.resume(run)
    assert (run / HEALTH).read_bytes() == before
    (run / HEALTH).unlink()  # as if it had been killed before its verdict
    limbeck.resume(run)
    assert (run / HEALTH).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda c: c.update(store="/elsewhere"), True),
        (lambda c: c["training"].update(devices=4, accelerator="cuda", precision="bf16", log_every_steps=7), True),
        (lambda c: c["training"].update(epochs=9), False),
        (lambda c: c["training"].update(seed=1), False),
        (lambda c: c["training"].update(batch_size=8), False),
        (lambda c: c.update(digest="other"), False),
        (lambda c: c["backbone"].update(name="resnet34"), False),
        (lambda c: c["teacher"].update(name="/elsewhere", cache="/tmp"), True),
        (lambda c: c["teacher"].update(digest="other"), False),
    ],
)
def test_the_place_is_no_part_of_what_a_run_is(change: Callable[[dict[str, object]], None], same: bool) -> None:
    config = {
        "store": "/here",
        "digest": "one",
        "backbone": {"name": "resnet18"},
        "training": {"epochs": 3, "seed": 0, "batch_size": 4, "devices": 1},
        "teacher": {"name": "/here", "digest": "one"},
    }
    changed = json.loads(json.dumps(config))
    change(changed)
    assert (identity(config) == identity(changed)) == same  # type: ignore[arg-type]


def test_a_run_without_teacher_is_given_none(tmp_path: Path, store: Path) -> None:
    cfg = read_config(pretrain(store, tmp_path / "run"))
    with raises("no-teacher", "large"):
        at_place(cfg, {"teacher": "large"})


@pytest.mark.parametrize("text", ["name,step\nfoo,bar\n", "a,b\n1,2\n", "\x00"])
def test_damaged_metrics_are_a_sentence(tmp_path: Path, store: Path, text: str) -> None:
    run = pretrain(store, tmp_path / "run")
    (run / METRICS).write_text(text)
    with raises("damaged-metrics", run / METRICS):
        limbeck.resume(run)
    assert (run / CHECKPOINT).exists()
    assert (run / CONFIG).exists()
