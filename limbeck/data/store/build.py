"""From the rows of a source to a store."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from statistics import median

from limbeck.core.errors import UserError
from limbeck.core.progress import progress_bar
from limbeck.data.check.examine import Row, examine, examined, quiet_pillow, remember
from limbeck.data.check.issues import ISSUE_TYPES, OPTIONAL_ISSUES
from limbeck.data.check.stats import AcceptPolicy, ScanStats
from limbeck.data.decode import UndecodableError, original_size
from limbeck.data.fingerprint import what_changed
from limbeck.data.sources.base import SAMPLE, Item, Rows
from limbeck.data.store.layout import SKIPPED, is_store, read_manifest, read_source_files
from limbeck.data.store.writer import StoreWriter


def write_store(rows: Rows, out: Path, size: int | None, workers: int | None, policy: AcceptPolicy) -> None:
    """Decode all rows into a store folder at `out` and say on stderr, in one line, what became of them.

    Rows keep the order of the source, whatever `workers` is. A build of the same source that was interrupted is gone on
    with. Raises UserError when no row can be used, more are bad than `policy` allows, or `out` is something else than a
    store; then no store appears.
    """
    check_arguments(out, size, workers)
    report_changes(out, rows)
    counts = ScanStats(policy)
    with quiet_pillow(), StoreWriter(out, rows, size or choose_size(rows), policy.leave_out) as writer:
        for row in all_rows(rows, writer.size, workers, writer):
            counts.add(row)
        counts.judge(rows.name)
        writer.finish(rows.label_names, len(rows.ignored))
    print(summary(counts, rows, out, writer.size), file=sys.stderr)


def all_rows(rows: Rows, size: int, workers: int | None, writer: StoreWriter | None) -> Iterator[Row]:
    """Every row of the source, examined, with a progress bar; a writer gives those that it has, and gets the others."""
    seen: dict[str, str] = {}
    done = 0
    with progress_bar(rows.count, unit="images") as bar:
        for kept in writer.kept() if writer else ():
            for row in kept:
                remember(row, seen)
            done += len(kept)
            bar.advance(len(kept))
            yield from kept
        for fresh in examined(rows, size, workers, seen, skip=done):
            if writer:
                writer.append(fresh)
            bar.advance(len(fresh))
            yield from fresh


def check_arguments(out: Path | None, size: int | None, workers: int | None) -> None:
    """UserError when the output would overwrite something else, or a number makes no sense."""
    if size is not None and size < 1:
        raise UserError(f"a store of size {size} cannot hold an image: give the side in pixels, 1 or more")
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers cannot decode: give 1 or more")
    if out and out.exists() and not is_store(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"'{out}' exists and is not a store: choose another path or remove it")


def report_changes(out: Path, rows: Rows) -> None:
    """One line on stderr where `out` is a store of the same source as it was before."""
    if not is_store(out):
        return
    with suppress(UserError):  # a broken store is replaced like any other
        manifest = read_manifest(out)
        if manifest.source == rows.name and manifest.fingerprint != rows.fingerprint:
            changes = what_changed(read_source_files(out), rows.files())
            print(f"'{rows.name}' has changed since '{out}' was built{changes and ': ' + changes}", file=sys.stderr)


def choose_size(rows: Rows) -> int:
    """The median short side of a sample of the images when that is at most 128, else 256."""
    for items in (rows.sample(), rows.items()):  # all rows only if the whole sample was broken
        if sides := list(islice(short_sides(items), SAMPLE)):
            typical = int(median(sides))
            return typical if typical <= 128 else 256
    counts = ScanStats(AcceptPolicy())
    for item in islice(rows.items(), 1):
        counts.add(examine(item, size=1))
    raise counts.no_image(rows.name)


def short_sides(items: Iterable[Item]) -> Iterator[int]:
    """The shorter side in pixels of every item that can be opened."""
    for item in items:
        with suppress(UndecodableError):
            yield min(original_size(item.content))


def summary(counts: ScanStats, rows: Rows, out: Path, size: int) -> str:
    """Where every row went, in one line."""
    parts = [f"{counts.used:,} images stored at {size} x {size} in {out}"]
    if why_not := counts.why_not():
        parts.append(f"{why_not}, listed in {out / SKIPPED}")
    if rows.ignored:
        parts.append(f"{len(rows.ignored):,} ignored (not images by their names)")
    odd = [
        f"{counts.found[kind]:,} {ISSUE_TYPES[kind].title}"
        for kind in OPTIONAL_ISSUES
        if counts.found[kind] and counts.uses(kind)
    ]
    if odd:
        parts.append(f"worth a look with `limbeck check`: {', '.join(odd)}")
    return "; ".join(parts)
