"""The one look at every row: read, decoded, and everything worth saying about it. Checks and stores both take it."""

import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache, partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from limbeck.data.check.issues import Issue, refusal
from limbeck.data.decode import SAME, Content, Decoded, UndecodableError, decode, decoding
from limbeck.data.sources.base import Item, Rows
from limbeck.data.threads import batched, ordered_map

CHUNK = 16  # rows decoded by one task: enough to hide the cost of a task, few enough to hold large files
TINY = 8  # pixels of the short side: the least that a view can have


class Row(NamedTuple):
    """A row after the look at it; `key` is a digest of the file, "" where there was none to read."""

    path: str
    label: int
    issues: tuple[Issue, ...]
    decoded: Decoded | None
    key: str

    def used(self, leave_out: Collection[str]) -> bool:
        """Whether the row goes into a store."""
        return refusal(self.issues, leave_out) is None


def examined(rows: Rows, size: int, workers: int | None, seen: dict[str, str], skip: int = 0) -> Iterator[list[Row]]:
    """Rows in the order of the source, in chunks, squeezed to `size` pixels; the first `skip` ones are left alone.

    `seen` (key -> path of the first such file) is what duplicates are found by, and grows.
    """
    look = partial(_look, size=size)
    chunks = batched(islice(rows.items(), skip, None), CHUNK)
    for found in ordered_map(look, chunks, workers or os.cpu_count() or 1):
        yield [_compare(row, seen) for row in found]


def _look(items: list[Item], size: int) -> list[Row]:
    return [examine(item, size) for item in items]


def examine(item: Item, size: int) -> Row:
    """One row: its pixels, or the finding that says why there are none."""
    key, decoded = "", None
    issues = item.issues
    try:
        content = read(item.content)
        key = digest(content)
        decoded = decode(content, size)
        issues += decoded.issues + of_name(item.path, decoded.format) + of_size(decoded.width, decoded.height)
    except UndecodableError as error:
        issues += (error.finding,)
    return Row(item.path, item.label, issues, decoded, key)


def read(content: Content) -> Content:
    """The bytes of a file, anything else as it is; raises `UndecodableError` with the reason."""
    if not isinstance(content, Path):
        return content
    with decoding():
        return content.read_bytes()


def digest(content: Content) -> str:
    """Equal for equal files and for equal arrays; "" for what is neither, and for an empty file."""
    if isinstance(content, bytes) and content:
        return blake2b(content, digest_size=16).hexdigest()
    if isinstance(content, np.ndarray):
        return blake2b(np.ascontiguousarray(content).data, digest_size=16).hexdigest()
    return ""


def of_name(path: str, kind: str) -> tuple[Issue, ...]:
    """Whether the suffix fits the format; nothing is said where either is unknown."""
    suffix = os.path.splitext(path)[1].lower()
    named = formats_by_suffix().get(suffix)
    if not kind or named is None or named == kind:
        return ()
    return (Issue("misnamed", f"a {kind} file called {suffix}"),)


@cache
def formats_by_suffix() -> dict[str, str]:
    """Suffix -> Pillow's name of the format."""
    Image.init()
    return {suffix: SAME.get(kind, kind) for suffix, kind in Image.EXTENSION.items()}


def of_size(width: int, height: int) -> tuple[Issue, ...]:
    """Whether an image is too small to learn from."""
    return (Issue("tiny", f"{width} x {height} pixels"),) if min(width, height) < TINY else ()


def _compare(row: Row, seen: dict[str, str]) -> Row:
    first = remember(row, seen)
    if first == row.path:
        return row
    return row._replace(issues=(*row.issues, Issue("duplicate", f"the same bytes as {first}")))


def remember(row: Row, seen: dict[str, str]) -> str:
    """The path of the first readable row with these bytes, which may be this one."""
    return seen.setdefault(row.key, row.path) if row.key and refusal(row.issues, ()) is None else row.path


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow warns of broken metadata and of images half way to its size limit; both are read all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
