"""Temporary names: no two writers share one, and what a killed writer left is removed by the next, and nothing else."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from limbeck.core.files import atomic_folder, atomic_write, check_ours
from limbeck.core.unfinished import remove_abandoned
from tests.helpers.errors import raises

WRITER = """
import os, signal, sys
from pathlib import Path
from limbeck.core.files import atomic_folder, atomic_write
with (atomic_write if sys.argv[2] == "file" else atomic_folder)(Path(sys.argv[1])) as path:
    (path if sys.argv[2] == "file" else path / "inner").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path, kind: str) -> None:
    ended = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "a"), kind])
    assert ended.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    with (atomic_write if kind == "file" else atomic_folder)(tmp_path / "a") as path:
        (path if kind == "file" else path / "inner").write_text("whole")
    assert os.listdir(tmp_path) == ["a"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    meeting = threading.Barrier(2)

    def write(word: str) -> None:
        with atomic_write(tmp_path / "a") as path:
            meeting.wait()
            path.write_text(word)
            meeting.wait()

    writers = [threading.Thread(target=write, args=(word,)) for word in ("first", "second")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "a").read_text() in ("first", "second")
    assert os.listdir(tmp_path) == ["a"]


def test_only_names_of_the_right_form_are_removed(tmp_path: Path) -> None:
    others = [".a.unfinished", "a.0123abcd.unfinished", ".a.0123abcg.unfinished", ".a.0123abcd"]
    names = [*others, ".b.0123abcd.unfinished"]
    for name in names:
        (tmp_path / name).touch()
    remove_abandoned(tmp_path, "a")
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(others)


def test_a_folder_that_appeared_in_between_stays(tmp_path: Path) -> None:
    def late() -> None:
        with atomic_folder(tmp_path / "a") as path:
            (path / "ours").touch()
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "mine").touch()

    with raises("not-writable", tmp_path / "a"):
        late()
    assert os.listdir(tmp_path / "a") == ["mine"]
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_is_ours_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "ours").write_bytes(b"path,issue\r\n1,2")
    (tmp_path / "mine").write_bytes(b"path,label\r\n1,2")
    for name in ("missing", "empty", "ours"):
        check_ours(tmp_path / name, b"path,issue", "table")
    for path in (tmp_path / "mine", tmp_path):
        with raises("not-ours", path):
            check_ours(path, b"path,issue", "table")


def test_a_file_that_cannot_appear_is_refused_with_the_cause(tmp_path: Path) -> None:
    cause = os.strerror(errno.ENOENT).lower()
    with raises("not-writable", tmp_path / "none" / "a", cause), atomic_write(tmp_path / "none" / "a"):
        pass
