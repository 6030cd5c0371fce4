"""A file is there whole or is what it was; a disk without room, here a limit on the size of files, is a sentence."""

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from limbeck.core import files
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, read_json, replaced_folder, write_json
from limbeck.core.locks import exclusive_lock, wait_for_lock
from limbeck.data.store.open import build_store
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing, save_encoder
from limbeck.train.checkpoint import save_checkpoint
from limbeck.train.config import TrainConfig
from limbeck.train.metrics_file import MetricsFile
from limbeck.train.run_log import RunLog
from tests.helpers.disk import room
from tests.helpers.errors import raises
from tests.helpers.tiny import tiny_vit


def save_weights(run: Path) -> None:
    model = nn.Linear(200, 200)
    save_checkpoint(run / "checkpoint.ckpt", 1, model, torch.optim.AdamW(model.parameters()), {})


def save_network(run: Path) -> None:
    backbone: Backbone = tiny_vit()
    half = (0.5, 0.5, 0.5)
    save_encoder(backbone, run, Preprocessing(image_size=16, store_size=16, mean=half, std=half), {})


def add_rows(run: Path) -> None:
    metrics = MetricsFile(run / "metrics.csv", last_step=0)
    for step in range(1000):
        metrics.add({"step": step, "loss": 0.5})


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as path:
        path.write_text("old")

    def fail() -> None:
        with atomic_write(tmp_path / "a") as path:
            path.write_text("half of the new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("write", "name"), [(save_weights, "checkpoint.ckpt"), (save_network, "model.safetensors")])
def test_a_full_disk_is_one_sentence_and_harms_nothing(
    tmp_path: Path, write: Callable[[Path], None], name: str
) -> None:
    (tmp_path / name).write_text("what was there before")
    with raises("disk-full", name) as caught, room(4000):
        write(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / name).read_text() == "what was there before"
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_store_without_room_is_a_sentence_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    with raises("disk-full", "store"), room(4000):
        build_store(images, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert np.array_equal(build_store(images, tmp_path / "store").images[:], images)


def test_a_row_that_the_disk_tore_is_dropped_when_the_run_goes_on(tmp_path: Path) -> None:
    with raises("disk-full", "metrics.csv"), room(4000):
        add_rows(tmp_path)
    assert not (tmp_path / "metrics.csv").read_text().endswith("\n")
    whole = (tmp_path / "metrics.csv").read_text().splitlines()[:-1]
    MetricsFile(tmp_path / "metrics.csv", last_step=len(whole) - 2)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == whole


def test_tensorboard_without_room_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    values = {"epoch": 0.0, "loss": 0.0, "images_per_second": 0.0, "data_wait": 0.0}
    with RunLog(tmp_path, 0, 100, TrainConfig(loggers=("tensorboard",))) as log, raises("disk-full", "tensorboard"):
        log.record(1, values)


def test_json_and_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None, "é"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, None, "é"]}


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_json_that_is_none_is_a_sentence_with_the_remedy(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with raises("not-json", tmp_path / "a.json", "delete it"):
        read_json(tmp_path / "a.json", "delete it")
    with raises("not-readable", tmp_path / "b.json"):
        read_json(tmp_path / "b.json")


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "run"), raises("folder-locked", tmp_path / "run"), exclusive_lock(tmp_path / "run"):
        pass
    with exclusive_lock(tmp_path / "run"):
        pass


def test_what_is_refused_leaves_no_folder_but_one_that_was_there_or_has_files(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("old", "new", "written"):
        with raises("no", name), exclusive_lock(tmp_path / name):
            if name == "written":
                (tmp_path / name / "file").touch()
            raise UserError(name, code="no")
    assert sorted(os.listdir(tmp_path)) == ["old", "written"]
    assert sorted(os.listdir(tmp_path / "written")) == [".lock", "file"]


def test_what_waits_for_a_lock_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second thread enters when the first one has left."""
    caplog.set_level(logging.INFO, "limbeck")
    order, waiting = list[str](), threading.Event()

    def second() -> None:
        with wait_for_lock(tmp_path / "store"):
            order.append("second")

    with wait_for_lock(tmp_path / "store"):
        thread = threading.Thread(target=second)
        thread.start()
        while not caplog.records:
            waiting.wait(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert str(tmp_path / "store") in caplog.text


def test_what_is_refused_leaves_no_lock_and_who_waited_for_it_is_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file that the second thread waited for is removed; a third one must find the lock held."""
    caplog.set_level(logging.INFO, "limbeck")
    entered, third = threading.Event(), threading.Event()

    def second() -> None:
        with wait_for_lock(tmp_path / "store"):
            entered.set()
            third.wait(10)

    thread = threading.Thread(target=second)
    with raises("no"), wait_for_lock(tmp_path / "store"):
        thread.start()
        while not caplog.records:
            third.wait(0.01)
        raise UserError("refused", code="no")
    assert entered.wait(10)
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".store.lock").acquire(blocking=False)
    third.set()
    thread.join()
    with raises("no"), wait_for_lock(tmp_path / "store"):
        raise UserError("refused", code="no")
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for lock in (exclusive_lock, wait_for_lock):
        with raises("not-writable", tmp_path / "file"), lock(tmp_path / "file" / "run"):
            pass


VERSIONS = ("one", "two")


def write_version(folder: Path, version: str) -> None:
    with replaced_folder(folder) as new:
        for name in ("weights", "config"):
            (new / name).write_text(version)


def killed_after(events: int, act: Callable[[], None]) -> bool:
    """Run `act` in a child process that is killed at its event number `events` in the file system; False: it ended."""
    if (child := os.fork()) == 0:
        seen = 0

        def count(event: str, _: object) -> None:
            nonlocal seen
            if event.partition(".")[0] in ("open", "os", "shutil"):
                seen += 1
                if seen == events + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_whole_whenever_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    """Without an exchange of names there may be no folder for a moment; the next writer mends that."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    if not exchanges:
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    folder, found = tmp_path / "encoder", list[set[str]]()
    events = 0
    write_version(folder, "one")
    (folder / "notes.txt").write_text("mine")
    while killed_after(events, lambda: write_version(folder, "two")):
        events += 1
        inside = [*folder.iterdir()] if folder.exists() else []
        found.append({file.read_text() for file in inside if file.name != "notes.txt"})
        write_version(folder, "one")
        assert [entry.name for entry in tmp_path.iterdir()] == ["encoder"]
    assert events > 10
    assert {"one"} in found
    assert {"two"} in found
    allowed: list[set[str]] = [{"one"}, {"two"}, *([] if exchanges else [set[str]()])]
    assert [versions for versions in found if versions not in allowed] == []
    assert (folder / "notes.txt").read_text() == "mine"
