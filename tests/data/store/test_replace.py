"""Replacing a store: nothing of the user's is lost, and a store is under its name whenever the process is killed."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.core import disk
from limbeck.data.store import replace, writer
from limbeck.data.store.open import build_store, open_store
from limbeck.data.store.store import Store
from tests.helpers.errors import raises

FIRST, SECOND = (np.random.default_rng(seed).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8) for seed in (0, 1))


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    build_store(FIRST, tmp_path / "store")
    return tmp_path / "store"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def own_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"title": "my data", "version": 1}))
    (folder / "index.parquet").unlink()


def own_file(folder: Path) -> None:
    (folder / "chapter1.txt").write_text("precious")


def own_folder(folder: Path) -> None:
    (folder / "skipped.csv").unlink(missing_ok=True)
    (folder / "skipped.csv").mkdir()


@pytest.mark.parametrize(
    ("change", "code"),
    [(own_manifest, "not-a-store"), (own_file, "not-only-a-store"), (own_folder, "not-only-a-store")],
)
def test_a_folder_that_only_looks_like_a_store_stays(store: Path, change: Callable[[Path], None], code: str) -> None:
    change(store)
    before = files(store)
    with raises(code, store):
        build_store(SECOND, store)
    assert files(store) == before
    assert np.array_equal(np.load(store / "images.npy"), FIRST)


@pytest.mark.parametrize("damage", ["{", json.dumps({"version": 99, "images": 1, "digest": "", "fingerprint": None})])
def test_a_store_that_is_damaged_or_of_another_version_is_replaced(store: Path, damage: str) -> None:
    (store / "manifest.json").write_text(damage)
    assert np.array_equal(build_store(SECOND, store).images[:], SECOND)


def test_what_appears_during_the_build_stays(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables = writer.StoreWriter._write_tables

    def meanwhile(self: writer.StoreWriter) -> None:
        write_tables(self)
        own_file(store)

    monkeypatch.setattr(writer.StoreWriter, "_write_tables", meanwhile)
    with raises("not-only-a-store", "chapter1.txt"):
        build_store(SECOND, store)
    assert (store / "chapter1.txt").read_text() == "precious"
    assert np.array_equal(Store.open(store).images[:], FIRST)


def test_the_source_does_not_lie_in_the_store_that_it_would_replace(store: Path) -> None:
    for source in (str(store / "images.npy"), [str(store / "images.npy")]):
        with raises("source-in-store", store):
            build_store(source, store, store_size=4)
    assert np.array_equal(Store.open(store).images[:], FIRST)


def test_a_link_is_replaced_where_it_points_to(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    build_store(SECOND, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert np.array_equal(Store.open(store).images[:], SECOND)


def kill_at(number: int, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    """Kill at the change of a name with this number, before it, in the last steps of a build."""
    count = iter(range(1000))

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if next(count) == number:
                raise Killed
            return real(*args, **kwargs)

        return step

    appear = writer.StoreWriter._appear

    def last_steps(self: writer.StoreWriter) -> None:
        for owner, name in ((os, "replace"), (os, "unlink"), (os, "rmdir"), (Path, "unlink"), (Path, "rmdir")):
            monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
        monkeypatch.setattr(replace, "exchange", counted(disk.exchange if exchanges else lambda *_: False))
        appear(self)

    monkeypatch.setattr(writer.StoreWriter, "_appear", last_steps)

    def leave(self: writer.StoreWriter, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            replace.remove_partial(self.out)

    monkeypatch.setattr(writer.StoreWriter, "__exit__", leave)


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("number", range(14))
def test_a_kill_at_any_step_leaves_a_store_under_its_name(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, number: int, exchanges: bool
) -> None:
    np.save(tmp_path / "second.npy", SECOND)
    with monkeypatch.context() as patch:
        kill_at(number, patch, exchanges)
        with suppress(Killed):
            build_store(tmp_path / "second.npy", store)
    found = open_store(store).images[:]
    assert np.array_equal(found, FIRST) or np.array_equal(found, SECOND)
    again = build_store(tmp_path / "second.npy", store)
    again.verify()
    assert np.array_equal(again.images[:], SECOND)
    assert not replace.partial_folder(store).exists()


def test_another_source_after_a_kill_keeps_the_old_store_until_it_is_done(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs(replace.partial_folder(store))
    os.replace(store, replace.partial_folder(store) / replace.OLD)
    with raises("source-missing"):
        build_store(str(tmp_path / "gone"), store)
    assert np.array_equal(open_store(store).images[:], FIRST)


def test_files_of_others_in_the_hidden_folder_stay(store: Path) -> None:
    mine = replace.partial_folder(store) / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    build_store(SECOND, store)
    assert mine.read_text() == "precious"
