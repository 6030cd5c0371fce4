"""Labels in a CSV file with the columns path and label, as a person writes them into a list of images."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.core.disk import not_readable
from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.text import csv_cell, first_names, plain_cell
from limbeck.data.sources.labels import class_name

PATH, LABEL = "path", "label"


class ListedLabels(NamedTuple):
    """The labels that a file gives to images."""

    labels: NDArray[np.int64]  # [N], -1 where there is none
    names: list[str]  # in alphabetical order
    unfilled: int  # images of the file without a label


def read_label_list(file: Path, paths: Sequence[str]) -> ListedLabels:
    """Return the labels that a CSV file gives to the images with these `paths` [N].

    Rows with an empty label are counted and left out.

    Raises:
        UserError: the file cannot be read, lacks a column, names an image that is not there, or gives one image two
            labels.
    """
    position = {_plain(path): row for row, path in enumerate(paths)}
    found: dict[int, str] = {}
    unfilled = 0
    for line, (path, label) in enumerate(_read(file), start=2):
        row = position.get(_plain(path))
        if row is None:
            meant = did_you_mean(path, paths[:10_000])
            raise UserError(
                f"'{file}' names '{path}' in line {line}, and no image has this path{meant}: paths are those of "
                "`limbeck select` and `limbeck embed`",
                code="unknown-image",
            )
        name = class_name(plain_cell(label))
        if name and found.setdefault(row, name) != name:
            raise UserError(
                f"'{file}' gives '{path}' two labels, '{found[row]}' and '{name}': leave one of them", code="two-labels"
            )
        unfilled += not name
    names = sorted({*found.values()})
    check_label_names(f"'{file}'", names)
    labels = np.full(len(paths), -1)
    for row, name in found.items():
        labels[row] = names.index(name)
    return ListedLabels(labels, names, unfilled)


def _read(file: Path) -> list[tuple[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            columns = reader.fieldnames or []
            rows = [((row.get(PATH) or "").strip(), (row.get(LABEL) or "").strip()) for row in reader]
    except OSError as error:
        raise not_readable(file, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"'{file}' is no CSV file in UTF-8: {error}", code="not-a-list") from error
    if missing := [name for name in (PATH, LABEL) if name not in columns]:
        raise UserError(
            f"'{file}' has no column '{missing[0]}': the columns {PATH} and {LABEL} are needed, and it has "
            f"{first_names(list(columns)) or 'none'}",
            code="not-a-list",
        )
    return rows


def _plain(path: str) -> str:
    """Return a path as a list may have it, which a spreadsheet cannot take for a formula."""
    return csv_cell(plain_cell(path))


def check_label_names(where: str, names: Sequence[str]) -> None:
    """Raise UserError where two labels differ in case alone, which is a slip of the pen."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise UserError(
                f"{where} has the labels '{other}' and '{name}', which differ in case alone: write one of them",
                code="labels-collide",
            )
