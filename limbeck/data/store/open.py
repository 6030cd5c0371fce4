"""Get the store of a source: built at a given place, or built once in a cache and opened from then on."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from limbeck.core.disk import check_writable, make_folder
from limbeck.core.errors import UserError
from limbeck.core.locks import wait_for_lock
from limbeck.core.logs import ensure_visible
from limbeck.core.runners.run import RunnerConfig, RunnerName
from limbeck.data.check.issues import ALLOW_BAD, OptionalIssue
from limbeck.data.check.stats import AcceptPolicy
from limbeck.data.depth import depth_source
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.base import ImageSource
from limbeck.data.sources.open import Source, open_source
from limbeck.data.sources.selection import EVERYTHING, Selection
from limbeck.data.store.build import check_arguments, choose_size, write_store
from limbeck.data.store.encoded_writer import check_encoding, choose_encoding
from limbeck.data.store.layout import DepthValues, Keep, is_store, read_manifest
from limbeck.data.store.replace import restore, restore_if_lost, store_path
from limbeck.data.store.store import Store

logger = logging.getLogger(__name__)
CACHE = "limbeck"  # a folder in that of the user
LONGEST_NAME = 50  # characters of a source in the name of its store: of four bytes each they fit into a file name


def build_store(
    source: Source,
    out: str | Path,
    *,
    store_size: int | None = None,
    keep: Keep = "raw",
    quality: int | None = None,
    workers: int | None = None,
    runner: RunnerName | None = None,
    runner_args: Mapping[str, Any] | None = None,
    allow_bad: float = ALLOW_BAD,
    leave_out: Sequence[OptionalIssue] = (),
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    max_images: int | None = None,
    depth: DepthValues | None = None,
) -> Store:
    """Decode every image of `source` into a new store folder `out`, which appears only when it is complete.

    Skipped images are listed in `skipped.csv`. A store at `out` is replaced, anything else is refused. A build that was
    killed continues when it is started again from the same files and with the same arguments.

    Args:
        source: a folder, files, arrays, a data set ... (see docs/data.md).
        out: the folder.
        store_size: side in pixels of the stored images; None: the median short side if that is at most 128, else 256.
        keep: "raw" stores pixels; "jpeg" and "webp" store encoded images, about a tenth of that.
        quality: of encoded images, 1 to 100; None: 90, and small images (up to 64 pixels) lose nothing.
        workers, runner, runner_args: who decodes (docs/scale.md); None: threads of this process, one per core.
        allow_bad: share of the images that may be unreadable.
        leave_out: issues (see `limbeck.check`) whose images are skipped, too.
        exclude: patterns such as `*_mask.png` or `masks`; images that match one are left out. A pattern without a slash
            must match a file or a folder, one with a slash the whole path below the source.
        only: if given, images that match none of these patterns are left out.
        max_images: of a source with more images, take so many, drawn at random.
        depth: the images are depth, in distances of any unit or inverse ones, and become white where they are near.

    Raises:
        UserError: the source is missing, empty, not recognized, without images, or has too many unreadable ones.
    """
    ensure_visible()
    policy, folder = AcceptPolicy(leave_out=tuple(leave_out), allow_bad=allow_bad), store_path(out)
    check_arguments(folder, store_size, workers)
    how = RunnerConfig(runner=runner, workers=workers or os.cpu_count() or 1, args=runner_args or {})
    check_encoding(keep, quality, how)
    images = depth_source(open_source(source, Selection.by(exclude, only, max_images)), depth, runner)
    with wait_for_lock(folder):
        size = choose_size(images) if store_size is None else store_size
        write_store(images, folder, size, workers, policy, choose_encoding(keep, size, quality, source, how))
    return _opened(folder)


def open_store(
    source: Source,
    cache: str | Path | None = None,
    store_size: int | None = None,
    allow_bad: float = ALLOW_BAD,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    max_images: int | None = None,
) -> Store:
    """Return the store of `source`: a store folder is opened; anything else is built once in a cache and reused.

    The store is built again when files of the source were added, removed or changed. Arrays and data sets in Python
    have no fingerprint and are built each time. Of several processes, one builds and the others wait.

    Args:
        source: a store, or see `build_store`.
        cache: folder of the stores; None: `limbeck` in $XDG_CACHE_HOME or ~/.cache.
        store_size: see `build_store`.
        exclude, only, max_images: see `build_store`; of a store, those that it was built with.
        allow_bad: share of the images that may be unreadable, also where the store was built before.

    Raises:
        UserError: as `build_store`, or the store has another size, or was built with other patterns.
    """
    ensure_visible()
    selection = Selection.by(exclude, only, max_images)
    if isinstance(source, str | Path):
        restore_if_lost(store_path(source))
        if is_store(Path(source)):
            return check_selection(check_size(_opened(Path(source)), store_size), selection)
    policy = AcceptPolicy(allow_bad=allow_bad)
    check_arguments(None, store_size, None)
    images = open_source(source, selection)
    size = choose_size(images) if store_size is None else store_size
    out = cache_folder(cache) / cache_name(images, size)
    with wait_for_lock(out):
        restore(out)
        if not is_current(out, images):
            write_store(images, out, size, workers=None, policy=policy)
    store = _opened(out)
    # it may have been built under a laxer policy
    policy.raise_if_too_many_bad(store.skipped, store.skipped + len(store), images.name)
    return store


def source_name(path: Path) -> str:
    """Return the name of a store for messages: its folder or, of one in the cache, the source it was built from."""
    return read_manifest(path).source if path.parent == _user_cache() / CACHE and is_store(path) else str(path)


def _opened(folder: Path) -> Store:
    """Return the store of a folder, and say which labels it has."""
    store = Store.open(folder)
    logger.info(store.describe_labels())
    return store


def cache_folder(cache: str | Path | None) -> Path:
    """Return the folder of the stores that are built without a place of their own.

    Raises:
        UserError: it may not be written; the ways out are named.
    """
    folder = Path(cache) if cache else _user_cache() / CACHE
    try:
        check_writable(folder)
        make_folder(folder)
    except UserError as error:
        raise UserError(
            f"the cache of stores {error}; or build the store at another place with `limbeck store SOURCE STORE` and "
            "give STORE instead of the source, or set XDG_CACHE_HOME to a folder for caches",
            code=error.code,
        ) from error
    return folder


def _user_cache() -> Path:
    """Return $XDG_CACHE_HOME, which must be absolute to count, or ~/.cache."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path(os.path.expanduser("~"), ".cache")


def check_size(store: Store, size: int | None) -> Store:
    """Return the store; raise UserError where another size is wanted."""
    if size not in (None, store.size):
        raise UserError(
            f"the store '{store.path}' holds images of {store.size} pixels, not {size}: build one of that size",
            code="other-store-size",
        )
    return store


def check_selection(store: Store, selection: Selection) -> Store:
    """Return the store; raise UserError where images are to be left out that it was built with."""
    if selection not in (EVERYTHING, Selection.by(store.exclude, store.only, store.max_images)):
        raise UserError(
            f"'{store.path}' is a store already, from which nothing is left out: build one from its source "
            f"with `limbeck store SOURCE STORE {selection}`",
            code="selection-of-a-store",
        )
    return store


def cache_name(source: ImageSource, size: int) -> str:
    """Return a readable folder name that differs between sources and between sizes of the stored images."""
    spread = [] if source.max_images is None else [str(source.max_images)]
    key = fingerprint([str(Path(source.name).absolute()), str(size), *source.exclude, *source.only, *spread])[:8]
    return f"{Path(source.name).stem[:LONGEST_NAME]}-{size}-{key}"


def is_current(folder: Path, source: ImageSource) -> bool:
    """Return whether `folder` is a store of this source in its present state."""
    if source.fingerprint is None or not is_store(folder):
        return False
    with suppress(UserError):
        return read_manifest(folder).fingerprint == source.fingerprint
    return False
