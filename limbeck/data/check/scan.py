"""Scan a source once: which files will be used, which will be skipped or ignored, and why.

A scan decodes every image exactly as a store does, and builds the store in the same pass if asked to.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, check_ours
from limbeck.core.html import PAGE_START
from limbeck.core.locks import wait_for_lock
from limbeck.core.logs import ensure_visible
from limbeck.core.text import csv_cell, plural, printable
from limbeck.data.check.issues import ALLOW_BAD, ISSUE_TYPES, Issue, IssueName, OptionalIssue, skip_reason
from limbeck.data.check.page import PICTURES, SIDE, Picture, Section, check_page, issue_sections
from limbeck.data.check.stats import AcceptPolicy, ScanStats
from limbeck.data.decode import image_format
from limbeck.data.decoded_sample import DecodedSample, quiet_pillow
from limbeck.data.fingerprint import what_changed
from limbeck.data.sources.base import ImageSource, LeftOut
from limbeck.data.sources.labels import describe_labels
from limbeck.data.sources.names import why_hidden
from limbeck.data.sources.open import Source, open_source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.build import add_to_digest, check_arguments, choose_size, make_manifest, scan_samples
from limbeck.data.store.layout import ContentDigest, read_manifest, read_source_files
from limbeck.data.store.replace import store_path
from limbeck.data.store.store import Store
from limbeck.data.store.writer import StoreWriter
from limbeck.data.threads import ordered_map
from limbeck.data.thumbnail import thumbnail

if TYPE_CHECKING:
    from rich.table import Table

CSV, HTML = "check.csv", "check.html"
COLUMNS = ("path", "outcome", "issue", "detail")


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of a scan."""

    source: str
    stats: ScanStats
    label_names: Sequence[str]
    """Names of the classes; none where no image has a label."""
    label_note: str
    """Labels and their origin, or why there are none."""
    folder: Path
    """Folder of check.csv and check.html."""
    store: Path | None
    """The store that was built in the same scan."""
    pictures: Mapping[IssueName, Sequence[Picture]] = field(repr=False)
    """The first files with each issue."""

    def raise_if_unacceptable(self) -> None:
        """Raise UserError where no image can be used, or more are unreadable than was allowed."""
        self.stats.raise_if_unacceptable(self.source, str(self.folder / "check.csv"))

    def summary(self) -> str:
        """Return a sentence that accounts for every file."""
        skipped = self.stats.describe_skipped()
        parts = [
            f"{self.stats.used:,} of {plural(self.stats.total, 'image')} of '{self.source}' will be used",
            *([skipped] if skipped else []),
            *self.stats.describe_left_out(),
        ]
        return "; ".join(parts)

    def write_page(self, more: Sequence[Section] = ()) -> None:
        """Write check.html, with `more` sections at its end."""
        sections = [*issue_sections(self.stats, self.pictures), *more]
        write_page(self.folder, self.summary(), f"{CSV} lists every file with its issues.", sections)

    def table(self) -> "Table":
        """Return the issues as a table for the terminal, the most harmful first."""
        from rich.table import Table
        from rich.text import Text

        table = Table("issue", "files", "outcome", "for example", "what to do")
        for name in self.stats.by_harm():
            path, issue = self.stats.first[name]
            kind, action = ISSUE_TYPES[name], self.stats.action(name)
            example = printable(f"{path}: {issue.detail}")
            table.add_row(kind.title, f"{self.stats.found[name]:,}", action, Text(example), kind.advice)
        return table


def write_page(folder: Path, sentence: str, note: str, sections: Sequence[Section]) -> None:
    """Write check.html into `folder`."""
    check_ours(folder / HTML, PAGE_START, "page")
    with atomic_write(folder / HTML) as unfinished:
        unfinished.write_text(check_page(sentence, note, sections), encoding="utf-8")


def check(
    source: Source,
    out: str | Path = "check",
    *,
    build_store: str | Path | None = None,
    store_size: int | None = None,
    workers: int | None = None,
    allow_bad: float = ALLOW_BAD,
    leave_out: Sequence[OptionalIssue] = (),
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Check:
    """Scan a source once, and write check.csv (a row per issue) and check.html (with thumbnails) into `out`.

    Args:
        source: see `limbeck.build_store`.
        out: folder of the two files.
        build_store: build a store there in the same scan, of exactly the images that are used; not if too many are bad.
        store_size, workers, allow_bad, leave_out, exclude, only: as for `limbeck.build_store`.

    Raises:
        UserError: the source is missing or not recognized. Too many unreadable images are an error only in
            `Check.raise_if_unacceptable`.
    """
    ensure_visible()
    policy = AcceptPolicy(leave_out=tuple(leave_out), allow_bad=allow_bad)
    store, folder = None if build_store is None else store_path(build_store), Path(out)
    check_arguments(store, store_size, workers)
    images = open_source(source, Selection(exclude=tuple(exclude), only=tuple(only)))
    make_folder(folder)
    check_ours(folder / HTML, PAGE_START, "page")
    check_ours(folder / CSV, ",".join(COLUMNS).encode(), "table")
    with quiet_pillow(), wait_for_lock(store) if store else nullcontext():
        size = _size(images, must_exist=store is not None) if store_size is None else store_size
        return _Scan(images, folder, policy).run(store, size, workers)


def check_store(folder: Path) -> list[str]:
    """Return sentences about a store: that it is intact, and what has changed in its source since it was built.

    Reads every pixel. The source is compared only if it is still a file or folder at its path.

    Raises:
        UserError: the store is damaged.
    """
    store, manifest = Store.open(folder), read_manifest(folder)
    store.verify()
    intact = f"{store.summary()}; every pixel is as it was written"
    if manifest.fingerprint is None or not Path(manifest.source).exists():
        return [intact, f"its source '{manifest.source}' is not available for comparison"]
    source = open_source(Path(manifest.source), Selection.by(manifest.exclude, manifest.only, manifest.max_images))
    if source.fingerprint == manifest.fingerprint:
        return [intact, f"its source '{manifest.source}' has not changed"]
    changes = what_changed(read_source_files(folder), source.files()) or "its files were rewritten"
    rebuild = f"rebuild it with `limbeck store {manifest.source} {folder}`"
    return [intact, f"its source '{manifest.source}' has changed ({changes}): {rebuild}"]


def _size(source: ImageSource, *, must_exist: bool) -> int:
    """Return the size that a store would have; any size serves a scan in which no image can be opened."""
    try:
        return choose_size(source)
    except UserError:
        if must_exist:
            raise
        return 1


class _Scan:
    """One pass over a source, with its table and its pictures."""

    def __init__(self, source: ImageSource, folder: Path, policy: AcceptPolicy) -> None:
        self.source, self.folder, self.stats = source, folder, ScanStats(policy)
        self.pictures: dict[IssueName, list[Picture]] = {}

    def run(self, store: Path | None, size: int, workers: int | None) -> Check:
        """Scan; build the store if one is wanted and not too many images are unreadable."""
        policy, digest = self.stats.policy, ContentDigest()
        with (
            atomic_write(self.folder / CSV) as unfinished,
            unfinished.open("w", newline="", encoding="utf-8") as file,
            StoreWriter(store, self.source, size, policy.leave_out) if store else nullcontext() as writer,
        ):
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for chunk in scan_samples(self.source, size, workers, self.stats, writer):
                for sample in chunk:
                    table.writerows(self._sample_lines(sample))
                if writer:
                    add_to_digest(digest, chunk, policy)
            table.writerows(self._other_lines(workers or 1))
            if writer and self.stats.acceptable():
                writer.finish(make_manifest(self.source, size, self.stats, digest))
        result = Check(
            source=self.source.name,
            stats=self.stats,
            label_names=self._label_names() if self.stats.labeled else (),
            label_note=self._label_note(),
            folder=self.folder,
            store=store if self.stats.acceptable() else None,
            pictures=self.pictures,
        )
        result.write_page()
        return result

    def _sample_lines(self, sample: DecodedSample) -> Iterator[list[str]]:
        """Yield the lines of the table for a sample."""
        reason = skip_reason(sample.issues, self.stats.policy.leave_out)
        outcome = self.stats.action(reason.name) if reason else "used"
        for issue in sample.issues:
            self._add_picture(sample.path, issue, sample)
            yield [csv_cell(sample.path), outcome, issue.name, csv_cell(issue.detail)]

    def _other_lines(self, workers: int) -> Iterator[list[str]]:
        """Yield the lines for classes with hardly an image, and for everything that is no sample."""
        issues = [(path, "used", issue) for path, issue in self.stats.small_classes(self.source.label_names)]
        for path, _, issue in issues:
            self.stats.add_issue(path, issue)
        for left_out in ordered_map(self._recognize, self.source.left_out, workers):
            self.stats.add_left_out(*left_out)
            issues.append((left_out.path, ISSUE_TYPES[left_out.issue.name].action, left_out.issue))
        for path, outcome, issue in issues:
            self._add_picture(path, issue)
            yield [csv_cell(path), outcome, issue.name, csv_cell(issue.detail)]

    def _recognize(self, left_out: LeftOut) -> LeftOut:
        """Return a file without an image's extension as an issue of its own where it holds an image."""
        path, issue = left_out
        if issue.name != "not_an_image" or why_hidden(path):
            return left_out
        kind = image_format(Path(self.source.name) / path)
        return LeftOut(path, Issue("no_extension", f"a {kind} file")) if kind else left_out

    def _label_names(self) -> Sequence[str]:
        return self.source.label_names or [str(label) for label in sorted(self.stats.classes)]

    def _label_note(self) -> str:
        stats, source = self.stats, self.source
        names = self._label_names()
        return describe_labels(stats.labeled, stats.used, names, source.label_origin, source.label_problems)

    def _add_picture(self, path: str, issue: Issue, sample: DecodedSample | None = None) -> None:
        pictures = self.pictures.setdefault(issue.name, [])
        if len(pictures) >= PICTURES:
            return
        image = ""
        if sample is not None and sample.pixels is not None:
            image = thumbnail(sample.pixels, sample.width, sample.height, SIDE)
        pictures.append(Picture(printable(path), printable(issue.detail), image))
