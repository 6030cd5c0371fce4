"""Makes a store that appears whole, and that a killed build goes on with.

While it grows, a hidden folder `.NAME.partial` beside it holds

* `plan.json`, what is being built: a build of anything else starts anew;
* `journal.jsonl`, a line for every row of the source that is done, used or not, written after its pixels;
* `store/`, the files of the store.

Whatever the moment of a kill, the lines of the journal whose pixels are there are a prefix of the source.
"""

import csv
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.core.errors import UserError
from limbeck.data.check.examine import CHUNK, Row
from limbeck.data.check.issues import Issue, refusal
from limbeck.data.decode import Decoded
from limbeck.data.fingerprint import what_changed
from limbeck.data.sources.base import Rows
from limbeck.data.store.layout import (
    IMAGES,
    INDEX,
    INDEX_SCHEMA,
    MANIFEST,
    SKIPPED,
    VERSION,
    ContentDigest,
    Manifest,
    name_labels,
    printable,
    read_source_files,
    replace_folder,
    write_source,
)
from limbeck.data.threads import batched

PLAN, JOURNAL, STORE = "plan.json", "journal.jsonl", "store"
COMMIT_SECONDS = 2.0  # work that a kill may cost; a commit waits for the disk, about 10 ms
BATCH = 10_000  # rows of the index that are written at once


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build makes; it goes on with one that made the same."""

    size: int
    source: str
    fingerprint: str | None
    leave_out: tuple[str, ...]
    version: int = VERSION


class StoreWriter:
    """Rows of a source, one after the other, into the store `out`, which appears when `finish` is called.

    Used as a context manager: `kept` must be read to its end first. Left without `finish`, the rows that are done stay
    for the next build of the same plan, unless the source cannot be told from another one (arrays in memory).
    """

    def __init__(self, out: Path, rows: Rows, size: int, leave_out: Sequence[str]) -> None:
        self.out, self.size, self.used, self.skipped = out, size, 0, 0
        self._rows, self._leave_out = rows, tuple(leave_out)
        self._plan = Plan(size=size, source=rows.name, fingerprint=rows.fingerprint, leave_out=self._leave_out)
        self._digest, self._highest, self._lines, self._finished = ContentDigest(), -1, list[str](), False
        self._partial = out.with_name(f".{out.name}.partial")
        self._store = self._partial / STORE

    def __enter__(self) -> Self:
        if not self._goes_on():
            self._start()
        self._images = (self._store / IMAGES).open("r+b")
        self._journal = (self._partial / JOURNAL).open("r+b")
        self._committed = time.monotonic()
        self._images.seek(self._header())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        closing = self._images.close, self._journal.close
        for last in closing if self._finished else (self._commit, *closing):
            with suppress(OSError):  # of a full disk: it is on its way already
                last()
        if self._finished or self._plan.fingerprint is None or not self.used:
            shutil.rmtree(self._partial, ignore_errors=True)
        else:
            print(f"{self.used:,} decoded images are kept: the same command goes on from there", file=sys.stderr)

    def kept(self) -> Iterator[list[Row]]:
        """The rows that an earlier build has done, with their pixels, in chunks; what it left half done is cut off."""
        end = 0
        for chunk in batched(self._whole_rows(), CHUNK):
            rows = [row for row, _ in chunk]
            self._account(rows)
            end = chunk[-1][1]
            yield rows
        self._journal.seek(end)
        self._journal.truncate()
        self._images.seek(self._header() + self.used * 3 * self.size**2)
        self._images.truncate()

    def append(self, rows: Sequence[Row]) -> None:
        """Add the next rows of the source: pixels of those that are used, a line for every one."""
        for row in rows:
            if row.used(self._leave_out):
                assert row.decoded is not None
                self._images.write(np.ascontiguousarray(row.decoded.pixels).data)
            self._lines.append(to_line(row))
        self._account(rows)
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self._commit()

    def finish(self, label_names: Sequence[str], ignored: int) -> None:
        """Complete the files and let the folder appear under its name, in the place of a store that was there."""
        names = name_labels(self._highest, label_names)
        self._commit()
        self._images.seek(0)
        self._images.write(npy_header(self.used, self.size))
        self._images.flush()
        self._write_index()
        manifest = Manifest(
            images=self.used,
            skipped=self.skipped,
            ignored=ignored,
            size=self.size,
            label_names=tuple(names),
            digest=self._digest.hexdigest(names),
            source=self._plan.source,
            fingerprint=self._plan.fingerprint,
        )
        (self._store / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        replace_folder(self._store, self.out)
        self._finished = True

    def _goes_on(self) -> bool:
        """Whether an unfinished build of this plan is there."""
        if self._plan.fingerprint is None:
            return False
        with suppress(OSError, ValueError):
            plan = json.loads((self._partial / PLAN).read_bytes())
            return bool(plan == json.loads(json.dumps(asdict(self._plan)))) and (self._store / IMAGES).is_file()
        return False

    def _start(self) -> None:
        if self._partial.is_dir():
            changes = what_changed(read_source_files(self._store), self._rows.files())
            print(
                f"an interrupted build of '{self.out}' was of other images or settings ({changes or 'settings'}): "
                "starting anew",
                file=sys.stderr,
            )
        shutil.rmtree(self._partial, ignore_errors=True)
        try:
            self._store.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"'{self.out}' cannot be written: {error.strerror}") from error
        (self._store / IMAGES).write_bytes(npy_header(0, self.size))
        (self._partial / JOURNAL).touch()
        write_source(self._store, self._rows.files())
        (self._partial / PLAN).write_text(json.dumps(asdict(self._plan)))

    def _header(self) -> int:
        return len(npy_header(0, self.size))

    def _whole_rows(self) -> Iterator[tuple[Row, int]]:
        """Rows whose line and pixels are whole, up to the first that is not, and where in the journal they end."""
        while (line := self._journal.readline()).endswith(b"\n"):
            row = from_line(line, self.size)
            if row is None:
                return
            if row.used(self._leave_out):
                assert row.decoded is not None
                if self._images.readinto(row.decoded.pixels.data) != row.decoded.pixels.nbytes:
                    return
            yield row, self._journal.tell()

    def _account(self, rows: Sequence[Row]) -> None:
        used = [row for row in rows if row.used(self._leave_out)]
        self.used += len(used)
        self.skipped += len(rows) - len(used)
        decoded = [row.decoded for row in used if row.decoded is not None]
        if decoded:
            labels = [max(row.label, -1) for row in used]
            widths, heights = [image.width for image in decoded], [image.height for image in decoded]
            self._digest.update(np.stack([image.pixels for image in decoded]), labels, widths, heights)
            self._highest = max(self._highest, *labels)

    def _commit(self) -> None:
        """Pixels first, then the lines that say that they are there."""
        self._images.flush()
        os.fsync(self._images.fileno())
        self._journal.write("".join(self._lines).encode())
        self._lines.clear()
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._committed = time.monotonic()

    def _write_index(self) -> None:
        """index.parquet and skipped.csv from the journal."""
        self._journal.seek(0)
        rows = (row for line in self._journal if (row := from_line(line, size=0)))
        with (
            pq.ParquetWriter(self._store / INDEX, INDEX_SCHEMA) as index,
            (self._store / SKIPPED).open("w", newline="", encoding="utf-8") as skipped,
        ):
            table = csv.writer(skipped)
            table.writerow(["path", "reason"])
            start = 0
            while some := list(islice(rows, BATCH)):
                used = [row for row in some if row.used(self._leave_out)]
                index.write_batch(index_batch(used, start))
                start += len(used)
                refused = ((row.path, refusal(row.issues, self._leave_out)) for row in some)
                table.writerows([path, finding.detail] for path, finding in refused if finding)


def npy_header(rows: int, size: int) -> bytes:
    """The header of images.npy; numpy pads it so that it has the same length for any number of rows."""
    header = io.BytesIO()
    shape = (rows, size, size, 3)
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


def index_batch(rows: Sequence[Row], start: int) -> pa.RecordBatch:
    """Rows of the index, numbered from `start`."""
    decoded = [row.decoded for row in rows if row.decoded is not None]
    columns: list[Sequence[Any]] = [
        range(start, start + len(rows)),
        [row.path for row in rows],
        [max(row.label, -1) for row in rows],
        [image.width for image in decoded],
        [image.height for image in decoded],
    ]
    return pa.record_batch([list(column) for column in columns], schema=INDEX_SCHEMA)


def to_line(row: Row) -> str:
    """A row as a line of the journal."""
    side = None if row.decoded is None else [row.decoded.width, row.decoded.height]
    return json.dumps([printable(row.path), row.label, row.issues, side, row.key]) + "\n"


def from_line(line: bytes, size: int) -> Row | None:
    """The row of a line, with room for its pixels; None where the line is broken."""
    try:
        path, label, issues, side, key = json.loads(line)
        found = tuple(Issue(kind, detail) for kind, detail in issues)
    except (ValueError, TypeError):
        return None
    decoded = None if side is None else Decoded(np.empty((size, size, 3), np.uint8), *side)
    return Row(path, label, found, decoded, key)
