"""Rows of a source, decoded by threads into the files of a store.

Threads, not processes: Pillow decodes and resizes without holding the interpreter's lock, and pixels need no copy. Tiny
images are bound by the lock, but then one thread stores about 5,000 a second (32 px JPEGs of a parquet file).
"""

import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from limbeck.data.decode import Decoded, UndecodableError, decode, original_size
from limbeck.data.files import SKIPPED, StoreWriter, is_store
from limbeck.data.rows import SAMPLE, Item, Rows
from limbeck.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16  # rows decoded by one task: enough to hide the cost of a task, few enough to hold large files


class Row(NamedTuple):
    """An item after decoding: its pixels, or the reason for skipping it."""

    path: str
    label: int
    result: Decoded | UndecodableError


def write_store(rows: Rows, out: Path, size: int | None, workers: int | None) -> None:
    """Decode all rows into a store folder at `out` and say on stderr, in one line, what became of them.

    Rows keep the order of the source, whatever `workers` is. Raises UserError when no row can be decoded or `out` is
    something else than a store; then nothing is written.
    """
    check_arguments(out, size, workers)
    with quiet_pillow():
        side = size or choose_size(rows)
        with StoreWriter(out, side) as writer, progress(rows.count) as advance:
            chunks = batched(rows.items(), CHUNK)
            for chunk in ordered_map(lambda items: decode_items(items, side), chunks, workers or os.cpu_count() or 1):
                write_rows(writer, chunk)
                advance(len(chunk))
            if not writer.rows:
                raise no_image(rows)
            writer.finish(
                label_names=rows.label_names, source=rows.name, fingerprint=rows.fingerprint, ignored=rows.ignored
            )
    print(summary(writer, rows.ignored), file=sys.stderr)


def check_arguments(out: Path, size: int | None, workers: int | None) -> None:
    """UserError when the output would overwrite something else, or a number makes no sense."""
    if size is not None and size < 1:
        raise UserError(f"a store of size {size} cannot hold an image: give the side in pixels, 1 or more")
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers cannot decode: give 1 or more")
    if out.exists() and not is_store(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"'{out}' exists and is not a store: choose another path or remove it")


def choose_size(rows: Rows) -> int:
    """The median short side of a sample of the images when that is at most 128, else 256."""
    for items in (rows.sample(), rows.items()):  # all rows only if the whole sample was broken
        if sides := list(islice(short_sides(items), SAMPLE)):
            typical = int(median(sides))
            return typical if typical <= 128 else 256
    raise no_image(rows)


def short_sides(items: Iterable[Item]) -> Iterator[int]:
    """The shorter side in pixels of every item that can be opened."""
    for item in items:
        with suppress(UndecodableError):
            yield min(original_size(item.content))


def no_image(rows: Rows) -> UserError:
    """The error of a source without one image, with the reason of the first row."""
    reason: object = "there is no row"
    for item in islice(rows.items(), 1):
        reason = decode_items([item], size=1)[0].result
    return UserError(f"'{rows.name}' holds no image that can be decoded (the first row: {reason})")


def decode_items(items: Iterable[Item], size: int) -> list[Row]:
    """Decode items; what cannot be decoded keeps its reason."""
    return [Row(item.path, item.label, attempt(item, size)) for item in items]


def attempt(item: Item, size: int) -> Decoded | UndecodableError:
    """The pixels of an item, or why there are none."""
    try:
        return decode(item.content, size)
    except UndecodableError as error:
        return error


def write_rows(writer: StoreWriter, rows: Iterable[Row]) -> None:
    """Append what was decoded, account for what was not."""
    decoded: list[tuple[str, int, Decoded]] = []
    for path, label, result in rows:
        if isinstance(result, UndecodableError):
            writer.skip(path, str(result))
        else:
            decoded.append((path, label, result))
    writer.append(
        [result for _, _, result in decoded], [path for path, _, _ in decoded], [label for _, label, _ in decoded]
    )


def summary(writer: StoreWriter, ignored: int) -> str:
    """Where every row went, in one line."""
    parts = [f"{writer.rows:,} images stored at {writer.size} x {writer.size} in {writer.out}"]
    if writer.skipped:
        parts.append(f"{writer.skipped:,} skipped (see {writer.out / SKIPPED})")
    if ignored:
        parts.append(f"{ignored:,} ignored (not images)")
    return ", ".join(parts)


def batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    while chunk := list(islice(items, size)):
        yield chunk


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """`map` on threads, in the order of the items, with at most two items per worker taken in advance."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with images/s and the time left, where stderr is a terminal; gives what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f} images/s")

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda rows: bar.advance(task, rows)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow warns of broken metadata and of images half way to its size limit; both are read all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
