"""Errors of the operating system are one sentence that names the place; room is reserved; names are synced."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from limbeck.core import disk
from limbeck.core.disk import (
    check_writable,
    exchange,
    fsync,
    is_refusal,
    reserve,
    room_warning,
    write_errors_as_user_error,
)
from limbeck.core.files import atomic_write, read_json
from limbeck.features import extract
from limbeck.features.extract import extract_matrix
from tests.helpers.errors import raises


def fail(path: Path, number: int, name: Path | None = None) -> None:
    with write_errors_as_user_error(path):
        raise OSError(number, "", None if name is None else str(name))


@pytest.mark.parametrize("number", disk.DISK_FULL)
def test_no_room(tmp_path: Path, number: int) -> None:
    with raises("disk-full", tmp_path / "a"):
        fail(tmp_path / "a", number)


@pytest.mark.parametrize("number", disk.REFUSED)
def test_a_place_that_may_not_be_written(tmp_path: Path, number: int) -> None:
    for name in (None, tmp_path / "a", tmp_path / "a" / "inner", tmp_path / ".a.lock", tmp_path):
        with raises("not-writable", tmp_path / "a"):
            fail(tmp_path / "a", number, name)


def test_a_copy_of_a_folder_without_room(tmp_path: Path) -> None:
    """`shutil` raises an error without a number for it, after all files."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    with raises("disk-full", tmp_path / "c"), write_errors_as_user_error(tmp_path / "c"):
        shutil.copytree(tmp_path / "a", tmp_path / "c", copy_function=Mock(side_effect=OSError(errno.ENOSPC, "")))


def test_what_is_read_is_not_blamed_on_what_is_written(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        fail(tmp_path / "a", errno.EACCES, tmp_path / "photos" / "b.png")


def test_a_writable_place_is_left_as_it_is_and_a_file_is_none(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with raises("not-writable", tmp_path / "file"):
        check_writable(tmp_path / "file" / "inner")


def test_a_place_without_permission_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with raises("not-writable", tmp_path / "run"):
        check_writable(tmp_path / "run")


def test_a_place_that_promises_and_refuses_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not show what /proc, or a full disk, does with a new file."""
    for number, code in ((errno.ENOENT, "not-writable"), (errno.ENOSPC, "disk-full")):
        error = OSError(number, os.strerror(number))
        monkeypatch.setattr(tempfile, "TemporaryFile", Mock(side_effect=error))
        with raises(code, tmp_path / "run", os.strerror(number).lower()):
            check_writable(tmp_path / "run")


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with raises("not-readable", tmp_path / "a.json") as caught:
        read_json(tmp_path / "a.json", "delete it")
    assert "delete" not in str(caught.value)
    assert not is_refusal(FileNotFoundError(errno.ENOENT, ""))


def test_files_and_then_their_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    replace = os.replace

    def synced(path: Path) -> None:
        events.append(f"sync {path.suffix}")
        fsync(path)

    def renamed(old: Path, new: Path) -> None:
        events.append("rename")
        replace(old, new)

    monkeypatch.setattr("limbeck.core.files.fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with atomic_write(tmp_path / "a") as path:
        path.touch()
    assert events == ["sync .unfinished", "rename", "sync "]


def test_two_folders_change_places_where_the_system_can_do_that(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    done = exchange(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path / "a") == (["b"] if done else ["a"])
    if done:
        with pytest.raises(FileNotFoundError):
            exchange(tmp_path / "a", tmp_path / "missing")


@pytest.mark.parametrize("allocates", [True, False])
def test_reserved_room_is_there(monkeypatch: pytest.MonkeyPatch, allocates: bool) -> None:
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with tempfile.TemporaryFile() as file:
        reserve(file, 3 * 2**20 + 5)
        assert os.fstat(file.fileno()).st_size == 3 * 2**20 + 5
        assert os.fstat(file.fileno()).st_blocks * 512 >= 3 * 2**20


def test_features_that_do_not_fit_on_the_disk_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a file is mapped: a map that finds no room kills the process."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(extract, "reserve", full)
    with raises("no-room-for-features", tempfile.gettempdir(), "TMPDIR", "--memory-gib"):
        extract_matrix(
            lambda x: {0: x}, lambda rows: torch.zeros(1), np.arange(4), {0: 8}, device=torch.device("cpu"), memory=0
        )


def test_what_does_not_fit_is_said_before_it_is_written(tmp_path: Path) -> None:
    warning = room_warning(tmp_path / "runs" / "a", 10**18)
    assert [word for word in (str(tmp_path / "runs" / "a"), "--out") if word not in warning] == []
    assert room_warning(tmp_path / "runs" / "a", 1) == ""
    assert not (tmp_path / "runs").exists()
