"""Images in the columns of parquet files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.core.errors import UserError, one_line
from limbeck.data.address import Address
from limbeck.data.check.issues import Issue
from limbeck.data.fingerprint import file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, LeftOut, SourceType
from limbeck.data.sources.table import BATCH, TablePart, table_source


def open_parquet(files: Sequence[Path | Address], name: str) -> ImageSource:
    """Return the rows of parquet files, in the order given; files that cannot be read are left out and listed.

    Raises:
        UserError: no file can be read, or columns do not fit.
    """
    parts, left_out = list[TablePart](), list[LeftOut]()
    for file in files:
        try:
            parts.append(parquet_part(file))
        except UserError as error:
            left_out.append(LeftOut(str(file), Issue("unreadable_part", str(error))))
            if len(left_out) == len(files):
                raise
    states = [file_state(file) for file in files]
    roots = list(dict.fromkeys(file.parent for file in files if isinstance(file, Path)))
    source = table_source(name, parts, roots)
    return replace(source, left_out=left_out, fingerprint=state_fingerprint(states), files=lambda: iter(states))


def parquet_part(file: Path | Address) -> TablePart:
    """Open a parquet file; UserError where it cannot be read."""
    with arrow_errors(str(file)):
        table = pq.ParquetFile(file if isinstance(file, Path) else file.open("rb"))
    return TablePart(str(file), file.name, table.schema_arrow, table.metadata.num_rows, partial(read, file, table))


def read(file: Path | Address, table: Any, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a parquet file in batches."""
    with arrow_errors(str(file)):
        yield from table.iter_batches(batch_size=BATCH, columns=list(columns))


@contextmanager
def arrow_errors(name: str) -> Iterator[None]:
    """Turn what pyarrow raises on a broken file into a UserError."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: text that is not UTF-8
        raise UserError(
            f"'{name}' cannot be read as parquet ({one_line(error)}): copy or write it again", code="bad-parquet"
        ) from error


SOURCE = SourceType(description=".parquet files", suffixes=(".parquet",), open_files=open_parquet)
