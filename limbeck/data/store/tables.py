"""The tables of a store, made of its samples: the index of the images, and what was skipped and why."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.core.text import csv_cell
from limbeck.data.check.issues import skip_reason
from limbeck.data.decoded_sample import DecodedSample
from limbeck.data.sources.base import LeftOut
from limbeck.data.store.layout import INDEX, SKIPPED, Keep, index_schema

BATCH = 10_000  # rows of the index that are written at once


class Place(NamedTuple):
    """Location of the encoded image of a sample."""

    shard: int
    offset: int
    bytes: int


Placed = tuple[DecodedSample, Place | None]
"""A sample without its pixels, and its place where images are encoded."""


def write_tables(
    folder: Path, samples: Iterator[Placed], leave_out: Sequence[str], left_out: Iterable[LeftOut], keep: Keep
) -> None:
    """Write index.parquet and skipped.csv of a store.

    Args:
        folder: of the store.
        samples: all of them, in their order.
        leave_out: issues whose images are skipped, though they could be used.
        left_out: what the source has besides.
        keep: how images are kept.
    """
    row = 0
    with (
        pq.ParquetWriter(folder / INDEX, index_schema(keep)) as index,
        (folder / SKIPPED).open("w", newline="", encoding="utf-8") as skipped,
    ):
        table = csv.writer(skipped)
        table.writerow(["path", "issue", "detail"])
        while some := list(islice(samples, BATCH)):
            used = [placed for placed in some if placed[0].used(leave_out)]
            index.write_batch(index_batch(used, row, keep))
            row += len(used)
            reasons = ((sample.path, skip_reason(sample.issues, leave_out)) for sample, _ in some)
            rows = ((csv_cell(path), reason.name, csv_cell(reason.detail)) for path, reason in reasons if reason)
            table.writerows(rows)
        listed = (item for item in left_out if item.issue.name != "not_an_image")
        table.writerows((csv_cell(path), issue.name, csv_cell(issue.detail)) for path, issue in listed)


def index_batch(used: Sequence[Placed], start: int, keep: Keep) -> pa.RecordBatch:
    """Return rows of the index, numbered from `start`."""
    columns: list[Sequence[Any]] = [
        range(start, start + len(used)),
        [sample.path for sample, _ in used],
        [max(sample.label, -1) for sample, _ in used],
        [sample.width for sample, _ in used],
        [sample.height for sample, _ in used],
    ]
    if keep != "raw":
        columns += [[place[number] for _, place in used if place] for number in range(len(Place._fields))]
    return pa.record_batch([list(column) for column in columns], schema=index_schema(keep))
