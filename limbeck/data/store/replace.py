"""Replace a store by a new one: only what is a store by its content, and in one step, whatever ends the process."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.core.disk import exchange, fsync, fsync_tree, write_errors_as_user_error
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.locks import LOCK, wait_for_lock
from limbeck.core.unfinished import remove_abandoned
from limbeck.data.address import is_address
from limbeck.data.store.layout import INDEX, INDEX_SCHEMA, MANIFEST, holds_images, is_store_file

MANIFEST_KEYS = frozenset({"version", "images", "digest", "fingerprint"})  # of every version
NEW, OLD = "store", "store.old"  # in the hidden folder of a build
BUILD, JOURNAL = "build.json", "journal.jsonl"  # what is built there, and what is done
SHARD_LINES = re.compile(r"images-\d{5,}\.jsonl")  # the samples of a shard that is complete


def store_path(out: str | Path) -> Path:
    """Return the path under which a store is replaced and locked: the place that a link points to."""
    if is_address(str(out)):
        raise UserError(
            f"a store is read in random order and lies on a disk, not at '{out}': name a folder, and copy it from "
            "there",
            code="store-at-address",
        )
    path = Path(out)
    try:
        return path.resolve() if path.is_symlink() or path.name in ("", "..") else path
    except (OSError, RuntimeError) as error:  # Python 3.11 raises a RuntimeError for links in a circle
        raise UserError(f"'{out}' is a link that leads nowhere: choose another path", code="not-writable") from error


def partial_folder(out: Path) -> Path:
    """Return the hidden folder in which the store `out` is built."""
    return out.with_name(f".{out.name}.partial")


def check_replaceable(out: Path) -> None:
    """Raise UserError unless there is nothing at `out`, an empty folder, or a store and not a file besides."""
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_ours(out):
        raise UserError(f"'{out}' exists and is not a store: choose another path, or remove it", code="not-a-store")
    names = [entry.name for entry in os.scandir(out) if not (is_store_file(entry.name) and entry.is_file())]
    if names:
        raise UserError(
            f"the store '{out}' holds other files, such as '{min(names)}', which would be lost: move them, or choose "
            "another path",
            code="not-only-a-store",
        )


def is_ours(folder: Path) -> bool:
    """Return whether a folder is a store by the content of its manifest, or of its index where that is damaged."""
    if not holds_images(folder):
        return False
    with suppress(UserError):
        manifest = read_json(folder / MANIFEST)
        if isinstance(manifest, dict) and manifest.keys() >= MANIFEST_KEYS:
            return True
    with suppress(OSError, pa.ArrowException):
        return bool(pq.read_schema(folder / INDEX).names[: len(INDEX_SCHEMA)] == INDEX_SCHEMA.names)
    return False


def replace_store(out: Path) -> None:
    """Rename the store that is complete in the hidden folder to `out`; one that is there takes its place there.

    Where the system cannot exchange two folders, the old one is moved aside first; `restore` undoes that after a kill.
    """
    new, old = partial_folder(out) / NEW, partial_folder(out) / OLD
    fsync_tree(new)
    check_replaceable(out)
    with write_errors_as_user_error(out):
        if not out.exists() or not any(out.iterdir()):
            os.replace(new, out)
        elif not exchange(new, out):
            os.replace(out, old)
            os.replace(new, out)


def appear(out: Path) -> None:
    """Let a build that is complete appear; a kill on the way leaves nothing that could be taken for one to continue."""
    check_replaceable(out)
    (partial_folder(out) / BUILD).unlink()
    try:
        replace_store(out)
    except (OSError, UserError):
        restore(out)
        raise
    fsync(out.parent)


def restore(out: Path) -> None:
    """Give a store its name back if its replacement broke off; the caller holds the lock of `out`."""
    old = partial_folder(out) / OLD
    if not os.path.lexists(out) and old.is_dir():
        os.replace(old, out)
        fsync(out.parent)


def restore_if_lost(out: Path) -> None:
    """Call `restore` under the lock of `out`, where there is something to restore."""
    if not os.path.lexists(out) and (partial_folder(out) / OLD).is_dir():
        with wait_for_lock(out):
            restore(out)


def remove_partial(out: Path) -> None:
    """Remove the files of a build, stores and nothing else from the hidden folder of `out`, and then the folder."""
    partial = partial_folder(out)
    for store in (partial / NEW, partial / OLD):
        _remove(store, is_store_file)
    _remove(partial, lambda name: name in (BUILD, JOURNAL, LOCK) or SHARD_LINES.fullmatch(name) is not None)


def _remove(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove the files of a folder that are ours by their names and then, if nothing else is in it, the folder."""
    remove_abandoned(folder)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.is_file(follow_symlinks=False) and is_ours(entry.name):
                os.unlink(entry.path)
        folder.rmdir()
