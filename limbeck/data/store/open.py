"""From a source to its store: built where it is to be, or built once in a cache and opened from then on."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.core.files import wait_for_lock
from limbeck.data.check.issues import Choice
from limbeck.data.check.stats import ALLOWED, AcceptPolicy
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.base import Rows
from limbeck.data.sources.open import Source, read_source
from limbeck.data.store.build import write_store
from limbeck.data.store.layout import is_store, read_manifest
from limbeck.data.store.store import Store


def build_store(
    source: Source,
    out: str | Path,
    *,
    store_size: int | None = None,
    workers: int | None = None,
    allow_bad: float = ALLOWED,
    leave_out: Sequence[Choice] = (),
) -> Store:
    """Decode every image of `source` into a new store folder `out`, which appears only when it is whole.

    Rows that are not used are listed in `skipped.csv`. A store at `out` is replaced, anything else refused. A build
    that was killed goes on where it was when it is started again, from the same files and with the same arguments.

    Args:
        source: see `read_source`.
        out: the folder.
        store_size: side in pixels to which images are squeezed; None: the median short side when that is at most 128, else
            256.
        workers: decoding threads; None: one per core.
        allow_bad: share of the rows that may be unreadable.
        leave_out: findings (see `limbeck.check`) whose rows are not used either.

    Raises:
        UserError: the source is missing, empty, of no known kind, without image, or has too many bad ones.
    """
    policy = AcceptPolicy(leave_out=tuple(leave_out), allow_bad=allow_bad)
    rows = read_source(source)
    with wait_for_lock(Path(out)):
        write_store(rows, Path(out), store_size, workers, policy)
    return Store.open(out)


def open_store(
    source: Source, cache: str | Path | None = None, store_size: int | None = None, allow_bad: float = ALLOWED
) -> Store:
    """The store of `source`: a store folder is opened; anything else is built once in the folder `cache` and reused.

    It is built again when files of the source came, went or changed. Arrays and data sets in Python have no such mark
    and are built each time. `cache` is ~/.cache/limbeck when not given. Of several processes one builds and the others
    wait. `allow_bad` is the share of rows that may be unreadable, also where the store was built before.

    Raises:
        UserError: as `build_store`, or no store of that size.
    """
    if isinstance(source, str | Path) and is_store(Path(source)):
        return sized(Store.open(source), store_size)
    policy = AcceptPolicy(allow_bad=allow_bad)
    rows = read_source(source)
    out = Path(cache or Path.home() / ".cache" / "limbeck") / cache_name(rows, store_size)
    with wait_for_lock(out):
        if not is_current(out, rows):
            write_store(rows, out, store_size, workers=None, policy=policy)
    store = Store.open(out)
    policy.judge(store.skipped, store.skipped + len(store), rows.name)  # it may have been built for a laxer one
    return store


def sized(store: Store, size: int | None) -> Store:
    """The store; UserError when another size was asked for."""
    if size not in (None, store.size):
        raise UserError(
            f"the store '{store.path}' holds images of {store.size} pixels, not {size}: build one of that size"
        )
    return store


def cache_name(rows: Rows, size: int | None) -> str:
    """A readable folder name that tells sources and sizes apart."""
    key = fingerprint([str(Path(rows.name).absolute()), str(size)])[:8]
    return f"{Path(rows.name).stem}-{size or 'auto'}-{key}"


def is_current(folder: Path, rows: Rows) -> bool:
    """Whether `folder` is a sound store of these rows as they are now."""
    if rows.fingerprint is None or not is_store(folder):
        return False
    with suppress(UserError):
        return read_manifest(folder).fingerprint == rows.fingerprint
    return False
