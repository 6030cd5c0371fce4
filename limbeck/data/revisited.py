"""Queries with easy, hard and junk images of a database: the truth of revisited Oxford and Paris, as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.data.decode import UndecodableError, open_image, original_size, pillow_errors, read_file
from limbeck.data.picture import Picture
from limbeck.data.store.layout import Pixels

Box = tuple[float, float, float, float]
LISTS = ("easy", "hard", "junk")
LAYOUT = 'it needs {"database": [paths], "queries": [{"image", "box", "easy", "hard", "junk"}]}'


class Query(NamedTuple):
    """An image, or a part of it, and the rows of the database that show the same."""

    image: Path
    box: Box | None
    """Left, top, right and bottom in pixels of the file; None: the whole image."""
    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]


class Revisited(NamedTuple):
    """A database of images, and the queries."""

    file: Path
    database: tuple[Path, ...]
    queries: tuple[Query, ...]


def read_revisited(file: Path) -> Revisited:
    """Return the queries and the database of a JSON file; paths are below its folder.

    Raises:
        UserError: the file is no such JSON; an image is missing, lies elsewhere or cannot be read; a row is not in the
            database or in two lists of a query; a box has no pixels; or no query has a positive.
    """
    found = read_json(file)
    if not isinstance(found, Mapping) or not all(_is_list(found.get(name)) for name in ("database", "queries")):
        raise _wrong(file, LAYOUT)
    database = tuple(_path(file, name) for name in found["database"])
    queries = tuple(_query(file, number, query, len(database)) for number, query in enumerate(found["queries"]))
    if not any(query.easy or query.hard for query in queries):
        raise _wrong(file, "no query has an easy or a hard image")
    return Revisited(file, database, queries)


def read_part(file: Path, box: Box | None, side: int, unit: int) -> Pixels:
    """Return an image, or the part in a box, with a longer side of `side` pixels, uint8 [H W 3].

    Both sides are multiples of `unit`; else the proportions are kept. EXIF rotation is not applied, for the box counts
    pixels of the file.

    Raises:
        UserError: the image cannot be read.
    """
    try:
        with pillow_errors():
            data = read_file(file)
            image, _ = open_image(data)
            part = Picture.load(image, data).rgb(_inside(box, image.size) if box else (0, 0, *image.size))
    except UndecodableError as error:
        raise _unreadable(file, error) from error
    scale = side / max(part.size)
    width, height = (max(1, round(length * scale / unit)) * unit for length in part.size)
    return np.asarray(part.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def _inside(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the pixels of a box that are in the image."""
    left, top = (max(0, round(value)) for value in box[:2])
    right, bottom = (min(most, round(value)) for value, most in zip(box[2:], size, strict=True))
    return left, top, right, bottom


def _query(file: Path, number: int, found: Any, rows: int) -> Query:
    where = f"query {number}"
    if not isinstance(found, Mapping) or not all(_is_list(found.get(name)) for name in LISTS):
        raise _wrong(file, f"{where} is not complete: {LAYOUT}")
    lists = [_rows(file, f"'{name}' of {where}", found[name], rows) for name in LISTS]
    everything = [row for part in lists for row in part]
    if twice := next((row for row in everything if everything.count(row) > 1), None):
        raise _wrong(file, f"{where} has the row {twice} twice")
    image = _path(file, found.get("image"))
    return Query(image, _box(file, where, found.get("box"), image), *lists)


def _rows(file: Path, where: str, found: Sequence[Any], rows: int) -> tuple[int, ...]:
    for row in found:
        if type(row) is not int or not 0 <= row < rows:
            raise _wrong(file, f"{where} has {row!r:.40}: rows of the database are 0 to {rows - 1:,}")
    return tuple(found)


def _box(file: Path, where: str, found: Any, image: Path) -> Box | None:
    try:
        size = original_size(image)
    except UndecodableError as error:
        raise _unreadable(image, error) from error
    if found is None:
        return None
    if not _is_list(found) or len(found) != 4 or not all(type(value) in (int, float) for value in found):
        raise _wrong(file, f"the box of {where} is {found!r:.80}: it must be left, top, right, bottom in pixels")
    box = (float(found[0]), float(found[1]), float(found[2]), float(found[3]))
    left, top, right, bottom = _inside(box, size)
    if left >= right or top >= bottom:
        raise _wrong(file, f"the box {found!r:.80} of {where} has no pixel of '{image.name}', which has {size}")
    return box


def _path(file: Path, name: Any) -> Path:
    if not isinstance(name, str) or not name:
        raise _wrong(file, f"{name!r:.80} is no path of an image")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _wrong(file, f"'{name:.200}' is not below '{file.parent}'")
    if not (file.parent / path).is_file():
        raise UserError(f"'{file.parent / path}', which '{file}' names, is missing", code="image-missing")
    return file.parent / path


def _is_list(found: Any) -> bool:
    return isinstance(found, list)


def _unreadable(file: Path, error: UndecodableError) -> UserError:
    return UserError(f"'{file}' cannot be read as an image: {error}", code="unreadable-image")


def _wrong(file: Path, problem: str) -> UserError:
    return UserError(f"'{file}' is no list of queries: {problem}", code="not-queries")
