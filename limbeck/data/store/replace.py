"""Replace a store by a new one: only what is a store by its content, and in one step, whatever ends the process."""

import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.core.disk import exchange, fsync, fsync_tree, write_errors_as_user_error
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.locks import wait_for_lock
from limbeck.core.unfinished import remove_abandoned
from limbeck.data.store.layout import IMAGES, INDEX, INDEX_SCHEMA, MANIFEST, SKIPPED, SOURCE_FILES

STORE_FILES = frozenset({IMAGES, INDEX, MANIFEST, SKIPPED, SOURCE_FILES})
MANIFEST_KEYS = frozenset({"version", "images", "digest", "fingerprint"})  # of every version
NEW, OLD = "store", "store.old"  # in the hidden folder of a build


def store_path(out: str | Path) -> Path:
    """Return the path under which a store is replaced and locked: the place that a link points to."""
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
    names = [entry.name for entry in os.scandir(out) if entry.name not in STORE_FILES or not entry.is_file()]
    if names:
        raise UserError(
            f"the store '{out}' holds other files, such as '{min(names)}', which would be lost: move them, or choose "
            "another path",
            code="not-only-a-store",
        )


def is_ours(folder: Path) -> bool:
    """Return whether a folder is a store by the content of its manifest, or of its index where that is damaged."""
    if not (folder / IMAGES).is_file():
        return False
    with suppress(UserError):
        manifest = read_json(folder / MANIFEST)
        if isinstance(manifest, dict) and manifest.keys() >= MANIFEST_KEYS:
            return True
    with suppress(OSError, pa.ArrowException):
        return bool(pq.read_schema(folder / INDEX).names == INDEX_SCHEMA.names)
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


def remove_partial(out: Path, *names: str) -> None:
    """Remove the files `names`, stores and nothing else from the hidden folder of `out`, and then the folder."""
    partial = partial_folder(out)
    for store in (partial / NEW, partial / OLD):
        _remove(store, STORE_FILES)
    _remove(partial, names)


def _remove(folder: Path, names: frozenset[str] | tuple[str, ...]) -> None:
    """Remove these files of a folder and then, if nothing else is in it, the folder."""
    remove_abandoned(folder)
    with suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
