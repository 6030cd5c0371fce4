"""Labels in a CSV file with the columns path and label, as a person writes them into a list of images."""

import codecs
import csv
import io
import logging
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.core.disk import not_readable
from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.text import csv_cell, csv_delimiter, first_names, plain_cell, plural
from limbeck.data.sources.labels import class_name
from limbeck.data.sources.selection import Selection
from limbeck.data.store.layout import SKIPPED
from limbeck.data.store.store import Store, read_paths

logger = logging.getLogger(__name__)
PATH, LABEL = "path", "label"
MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class ListedLabels(NamedTuple):
    """The labels that a file gives to images."""

    labels: NDArray[np.int64]  # [N], -1 where there is none
    names: list[str]  # in alphabetical order
    unfilled: int  # images of the file without a label


def read_label_list(file: Path, store: Store) -> ListedLabels:
    """Return the labels that a CSV file gives to the images of a store of N.

    Rows with an empty label are counted and left out, and so are images of the source that are not in the store, which
    a message says.

    Raises:
        UserError: the file cannot be read, lacks a column, names an image that is not there, or gives one image two
            labels.
    """
    paths = read_paths(store)
    position = {_composed(path): row for row, path in enumerate(paths)} | {path: row for row, path in enumerate(paths)}
    found: dict[int, str] = {}
    unfilled, unused = 0, list[str]()
    for line, path, label in _read(file):
        if not path + label:  # as spreadsheets end a table
            continue
        row = position.get(path, position.get(_composed(path)))
        if row is None:
            _raise_unless_unused(file, line, path, store, paths)
            unused.append(path)
            continue
        name = class_name(plain_cell(label))
        if name and found.setdefault(row, name) != name:
            raise UserError(
                f"'{file}' gives '{path}' two labels, '{found[row]}' and '{name}': leave one of them", code="two-labels"
            )
        unfilled += not name
    if unused:
        logger.info("'%s' lists %s that cannot be used: %s", file, plural(len(unused), "image"), first_names(unused))
    names = sorted({*found.values()})
    check_label_names(f"'{file}'", names)
    labels = np.full(len(paths), -1)
    for row, name in found.items():
        labels[row] = names.index(name)
    return ListedLabels(labels, names, unfilled)


def _raise_unless_unused(file: Path, line: int, path: str, store: Store, paths: Sequence[str]) -> None:
    """Raise UserError unless a path is that of an image of the source which is not in the store.

    Of a store that was built of a part of its source, nobody knows which other images there are.
    """
    selection = Selection.by(store.exclude, store.only)
    if store.max_images or _composed(path) in _skipped(store) or selection.excluded(path):
        return
    below = next((f" (did you mean '{known}'?)" for known in paths if path.endswith(f"/{known}")), "")
    meant = below or did_you_mean(path, paths[:10_000])
    raise UserError(
        f"'{file}' names '{path}' in line {line}, and no image has this path{meant}: paths are those of "
        "`limbeck select` and `limbeck embed`",
        code="unknown-image",
    )


def _skipped(store: Store) -> set[str]:
    """Return the paths of the images of a source that its store skipped."""
    table = store.path and store.path / SKIPPED
    if not table or not table.exists():
        return set()
    with table.open(newline="", encoding="utf-8") as opened:
        return {_composed(line.get(PATH) or "") for line in csv.DictReader(opened)}


def _read(file: Path) -> list[tuple[int, str, str]]:
    """Return line (the last one), path and label of every row.

    Columns may be in any case, and separated as spreadsheets do it.
    """
    try:
        data = file.read_bytes()
        text = data.decode("utf-16" if data.startswith(MARKS) else "utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=csv_delimiter(text))
        columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = [(reader.line_num, row.get(PATH) or "", (row.get(LABEL) or "").strip()) for row in reader]
    except OSError as error:
        raise not_readable(file, error) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"'{file}' is not in UTF-8 (byte {error.start:,}): save it as CSV UTF-8", code="not-a-list"
        ) from error
    except csv.Error as error:
        raise UserError(f"'{file}' is no CSV file ({error}): save it as CSV UTF-8", code="not-a-list") from error
    if missing := [name for name in (PATH, LABEL) if name not in columns]:
        raise UserError(
            f"'{file}' has no column '{missing[0]}': the columns {PATH} and {LABEL} are needed, and it has "
            f"{first_names(columns) or 'none'}",
            code="not-a-list",
        )
    return rows


def _composed(path: str) -> str:
    """Return a path as different programs agree on it: composed Unicode, nothing before it that means nothing.

    Of a cell that no spreadsheet can take for a formula, the path in it.
    """
    plain = csv_cell(plain_cell(path)).strip()
    return unicodedata.normalize("NFC", os.path.normpath(plain)) if plain else ""


def check_label_names(where: str, names: Sequence[str]) -> None:
    """Raise UserError where two labels differ in case alone, which is a slip of the pen."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise UserError(
                f"{where} has the labels '{other}' and '{name}', which differ in case alone: write one of them",
                code="labels-collide",
            )
