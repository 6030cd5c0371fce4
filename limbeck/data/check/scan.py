"""The doctor: one scan of a source that says which files will be used, which will not, and why.

It takes the same look at every row as the building of a store does, and builds the store in the same scan if asked.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, wait_for_lock
from limbeck.data.check.examine import Row, quiet_pillow
from limbeck.data.check.issues import ISSUE_TYPES, Choice, Issue, Name
from limbeck.data.check.page import PICTURES, Picture, check_page
from limbeck.data.check.stats import ALLOWED, AcceptPolicy, ScanStats
from limbeck.data.decode import Decoded, image_format
from limbeck.data.fingerprint import what_changed
from limbeck.data.sources.base import Rows
from limbeck.data.sources.open import Source, read_source
from limbeck.data.store.build import all_rows, check_arguments, choose_size
from limbeck.data.store.layout import printable, read_manifest, read_source_files
from limbeck.data.store.store import Store
from limbeck.data.store.writer import StoreWriter
from limbeck.data.threads import ordered_map

if TYPE_CHECKING:
    from rich.table import Table

CSV, HTML = "check.csv", "check.html"


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a scan found."""

    source: str
    counts: ScanStats
    ignored: int
    """Files that are no images by their names."""
    folder: Path
    """Of check.csv and check.html."""
    store: Path | None
    """The store that was built in the same scan."""
    pictures: Mapping[Name, Sequence[Picture]] = field(repr=False)
    """The first files with each finding."""

    def require(self) -> None:
        """UserError when no image is left, or more are bad than was allowed."""
        self.counts.judge(self.source)

    def sentence(self) -> str:
        """Where every file went."""
        why_not = self.counts.why_not()
        parts = [
            f"{self.counts.used:,} of {self.counts.rows:,} images of '{self.source}' will be used",
            *([why_not] if why_not else []),
            *([f"{self.ignored:,} other files are ignored"] if self.ignored else []),
        ]
        return "; ".join(parts)

    def write_page(self, more: str = "") -> None:
        """Write check.html, with `more` sections at its end."""
        with atomic_write(self.folder / HTML) as unfinished:
            text = check_page(self.sentence(), self.counts, self.pictures, more)
            unfinished.write_text(text, encoding="utf-8")

    def table(self) -> "Table":
        """The findings, for people."""
        from rich.table import Table

        table = Table("finding", "files", "used", "the first of them", "what to do")
        for kind in self.counts.kinds():
            path, finding = self.counts.first[kind]
            used = "yes" if self.counts.uses(kind) else "no"
            table.add_row(
                ISSUE_TYPES[kind].title,
                f"{self.counts.found[kind]:,}",
                used,
                f"{path}: {finding.detail}",
                ISSUE_TYPES[kind].advice,
            )
        return table


def check(
    source: Source,
    out: str | Path = "check",
    *,
    build_store: str | Path | None = None,
    store_size: int | None = None,
    workers: int | None = None,
    allow_bad: float = ALLOWED,
    leave_out: Sequence[Choice] = (),
) -> Check:
    """Scan a source once, and write check.csv (a row per finding) and check.html (with thumbnails) into `out`.

    Args:
        source: see `read_source`.
        out: folder of the two files.
        fix_into: build a store there of exactly the rows that are used, in the same scan; not if too many are bad.
        store_size, workers, allow_bad, leave_out: as for `build_store`.

    Raises:
        UserError: the source is missing or of no known kind. Too many bad files raise in `Check.require` only.
    """
    policy = AcceptPolicy(leave_out=tuple(leave_out), allow_bad=allow_bad)
    store, folder = None if build_store is None else Path(build_store), Path(out)
    check_arguments(store, store_size, workers)
    rows = read_source(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be made: {error.strerror}") from error
    with quiet_pillow(), wait_for_lock(store) if store else nullcontext():
        return _Scan(rows, folder, policy).run(store, store_size or _size(rows, store), workers)


def check_store(folder: Path) -> list[str]:
    """Sentences about a store: whether it is whole, and what changed in its source; UserError when it is damaged.

    Reads every pixel. A source that is no file or folder here any more is not looked for elsewhere.
    """
    store, manifest = Store.open(folder), read_manifest(folder)
    store.verify()
    whole = f"{store.account()}; every pixel is as it was written"
    if manifest.fingerprint is None or not Path(manifest.source).exists():
        return [whole, f"its source '{manifest.source}' is not here to compare with"]
    rows = read_source(Path(manifest.source))
    if rows.fingerprint == manifest.fingerprint:
        return [whole, f"its source '{manifest.source}' has not changed"]
    changes = what_changed(read_source_files(folder), rows.files()) or "its files were written again"
    return [whole, f"its source '{manifest.source}' has changed: {changes}; `limbeck store` builds it again"]


def _size(rows: Rows, store: Path | None) -> int:
    """The size that a store would have; any will do where nothing can be opened and nothing is to be stored."""
    try:
        return choose_size(rows)
    except UserError:
        if store:
            raise
        return 1


class _Scan:
    """One pass over a source, with its table and its pictures."""

    def __init__(self, rows: Rows, folder: Path, policy: AcceptPolicy) -> None:
        self.rows, self.folder, self.counts = rows, folder, ScanStats(policy)
        self.pictures: dict[Name, list[Picture]] = {}

    def run(self, store: Path | None, size: int, workers: int | None) -> Check:
        """The scan; the store appears if it is to be and not too many rows are bad."""
        leave_out = self.counts.policy.leave_out
        with (
            atomic_write(self.folder / CSV) as unfinished,
            unfinished.open("w", newline="", encoding="utf-8") as file,
            StoreWriter(store, self.rows, size, leave_out) if store else nullcontext() as writer,
        ):
            table = csv.writer(file)
            table.writerow(["path", "used", "finding", "detail"])
            for row in all_rows(self.rows, size, workers, writer):
                table.writerows(self._lines(row))
            table.writerows(self._more_lines(workers or 1))
            if writer and self.counts.acceptable():
                writer.finish(self.rows.label_names, len(self.rows.ignored))
        found = Check(
            source=self.rows.name,
            counts=self.counts,
            ignored=len(self.rows.ignored),
            folder=self.folder,
            store=store if self.counts.acceptable() else None,
            pictures=self.pictures,
        )
        found.write_page()
        return found

    def _lines(self, row: Row) -> Iterator[list[str]]:
        """Count a row, keep its picture, and give its lines of the table."""
        self.counts.add(row)
        used = "yes" if row.used(self.counts.policy.leave_out) else "no"
        for finding in row.issues:
            self._picture(row.path, finding, row.decoded)
            yield [printable(row.path), used, finding.kind, finding.detail]

    def _more_lines(self, workers: int) -> Iterator[list[str]]:
        """Classes that hardly exist, and files that are no images by their names."""
        for path, finding in self.counts.lonely(self.rows.label_names):
            self.counts.note(path, finding)
            self._picture(path, finding)
            yield [printable(path), "yes", finding.kind, finding.detail]
        paths = (Path(self.rows.name) / path for path in self.rows.ignored)
        for path, kind in zip(self.rows.ignored, ordered_map(image_format, paths, workers), strict=True):
            finding = Issue("nameless", f"a {kind} file") if kind else Issue("ignored", "no image's suffix")
            self.counts.note(path, finding)
            self._picture(path, finding)
            yield [printable(path), "no", finding.kind, finding.detail]

    def _picture(self, path: str, finding: Issue, decoded: Decoded | None = None) -> None:
        kept = self.pictures.setdefault(finding.kind, [])
        if len(kept) < PICTURES:
            kept.append(Picture(printable(path), finding.detail, decoded))
