"""Images in the columns of a Lance data set: a folder `NAME.lance`, whose newest version is read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from limbeck.core.errors import UserError, one_line
from limbeck.core.packages import require
from limbeck.data.fingerprint import file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, SourceType
from limbeck.data.sources.table import BATCH, TablePart, table_source

VERSIONS = "_versions"  # the folder that every data set has
BLOBS = {"blob_handling": "all_binary"}  # large values, which Lance stores apart, are read as their bytes


def is_lance(value: Any) -> bool:
    """Return whether a value is the folder of a Lance data set."""
    return isinstance(value, Path) and (value / VERSIONS).is_dir()


def open_lance(folder: Path) -> ImageSource:
    """Return the rows of a data set in their order; those of a damaged fragment are skipped.

    Raises:
        UserError: the library is not installed, the data set cannot be read, or it has no column of images.
    """
    require("lance", "lance", purpose=f"the Lance data set '{folder}'")
    import lance

    with lance_errors(folder):
        dataset = lance.dataset(folder)
        schema = dataset.scanner(**BLOBS).projected_schema
        parts = [_part(folder, dataset, schema, fragment) for fragment in dataset.get_fragments()]
    if not parts:
        raise UserError(f"the Lance data set '{folder}' has no rows: give another one", code="no-images")
    source = table_source(str(folder), parts, [folder.parent])
    states = [file_state(file) for file in sorted(folder.rglob("*")) if file.is_file()]
    return replace(source, fingerprint=state_fingerprint(states), files=lambda: iter(states))


def _part(folder: Path, dataset: Any, schema: Any, fragment: Any) -> TablePart:
    name, rows = f"fragment {fragment.fragment_id} of {folder}", fragment.count_rows()
    read = partial(_read, folder, dataset, fragment)
    return TablePart(name, f"{folder.name}/{fragment.fragment_id}", schema, rows, read)


def _read(folder: Path, dataset: Any, fragment: Any, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a fragment in batches."""
    with lance_errors(folder):
        scanner = dataset.scanner(columns=list(columns), fragments=[fragment], batch_size=BATCH, **BLOBS)
        yield from scanner.to_batches()


@contextmanager
def lance_errors(folder: Path) -> Iterator[None]:
    """Turn what Lance raises on a broken data set into a UserError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        reason = one_line(error).partition(", /")[0]  # behind it are places in Lance's own code
        raise UserError(
            f"'{folder}' cannot be read as a Lance data set ({reason:.200}): copy or write it again", code="bad-lance"
        ) from error


SOURCE = SourceType(description="a Lance data set (NAME.lance)", accepts=is_lance, open_value=open_lance)
