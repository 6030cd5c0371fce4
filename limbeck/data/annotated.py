"""Annotated keypoints of images: a CSV file with the columns path, NAME_x and NAME_y, in pixels of the original.

The square of an image is the whole of it, or the middle of one that is not square, as a keypoint detector sees it.
"""

import csv
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float64

from limbeck.core.disk import not_readable
from limbeck.core.errors import UserError
from limbeck.core.text import first_names, plural
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store, read_paths

logger = logging.getLogger(__name__)
FILE, PATH = "keypoints.csv", "path"
SIDES = ("left", "right")


class AnnotatedPair(NamedTuple):
    """Annotated keypoints of training and test images, in the same order of names."""

    names: tuple[str, ...]  # [P]
    train: Float64[np.ndarray, "N P 2"]
    """(x, y) in shares of the side of the square, from its upper left corner; NaN where a keypoint is not marked."""
    test: Float64[np.ndarray, "M P 2"]

    @classmethod
    def read(cls, train: tuple[Path, Store], test: tuple[Path, Store]) -> Self:
        """Read the files of two stores.

        Raises:
            UserError: as `read_annotated`; or the names differ, or a keypoint is never marked.
        """
        (names, fit), (others, measured) = (read_annotated(*role) for role in (train, test))
        if only := sorted({*names} ^ {*others}):
            raise UserError(
                f"the keypoint '{only[0]}' is in one of '{train[0]}' and '{test[0]}' alone: both need the same names",
                code="keypoints-differ",
            )
        for role, known, points in ((train, names, fit), (test, others, measured)):
            unmarked = [name for name, values in zip(known, points.transpose(1, 0, 2), strict=True) if _all_nan(values)]
            if unmarked:
                raise UserError(
                    f"'{role[0]}' marks the keypoint '{unmarked[0]}' in no image: leave its columns out",
                    code="keypoints-differ",
                )
        return cls(names, fit, measured[:, [others.index(name) for name in names]])

    def pairs(self) -> list[tuple[int, int]]:
        """Return the keypoints that a mirror exchanges: those whose names differ in left and right alone."""
        others = [name.replace(*SIDES) if SIDES[0] in name else name for name in self.names]
        found = ((first, self.names.index(other)) for first, other in enumerate(others) if other in self.names)
        return [(first, second) for first, second in found if first != second]

    def eyes(self) -> tuple[int, int] | None:
        """Return the positions of left_eye and right_eye; None where they are not annotated."""
        names = [f"{side}_eye" for side in SIDES]
        return (self.names.index(names[0]), self.names.index(names[1])) if {*names} <= {*self.names} else None


def keypoint_file(source: Source) -> str | None:
    """Return the file of keypoints in a folder of images; None where there is none."""
    if not isinstance(source, str | Path):
        return None
    file = Path(source) / FILE
    return str(file) if file.is_file() else None


def read_annotated(file: Path, store: Store) -> tuple[tuple[str, ...], Float64[np.ndarray, "N P 2"]]:
    """Return the names of the keypoints and their places in every image of a store, as in `AnnotatedPair`.

    Rows of images that are not in the store are left out, and their number is logged.

    Raises:
        UserError: the file cannot be read, lacks a column, holds what is no number, or has no row for an image.
    """
    columns, rows = _read(file)
    names = _names(file, columns)
    paths = read_paths(store)
    missing = [path for path in paths if path not in rows]
    if missing:
        raise UserError(
            f"'{file}' has no row for '{missing[0]}' and {plural(len(missing) - 1, 'other image')}: give every image "
            "one, with empty cells where nothing is marked, or leave the images out (--exclude)",
            code="image-without-keypoints",
        )
    if extra := len(rows) - len(paths):
        logger.info("'%s' has %s of images that are not measured", file, plural(extra, "row"))
    pixels = np.array([[_place(file, path, rows[path], name) for name in names] for path in paths])
    sizes = np.stack([store.widths, store.heights], axis=1).astype(np.float64)[:, None]
    side = sizes.min(axis=2, keepdims=True)
    return names, (pixels - (sizes - side) / 2) / side


def _all_nan(values: Float64[np.ndarray, "N 2"]) -> bool:
    return bool(np.isnan(values).any(axis=1).all())


def _read(file: Path) -> tuple[Sequence[str], dict[str, dict[str, str]]]:
    """Return the columns of the file, and its rows by path."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            columns = list(reader.fieldnames or [])
            found = {(row.get(PATH) or "").strip(): row for row in reader}
    except OSError as error:
        raise not_readable(file, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"'{file}' is no CSV file in UTF-8: {error}", code="not-keypoints") from error
    return columns, found


def _names(file: Path, columns: Sequence[str]) -> tuple[str, ...]:
    names = tuple(column.removesuffix("_x") for column in columns if column.endswith("_x"))
    needed = [PATH, *(f"{name}_y" for name in names or ("NAME",))]
    if missing := [column for column in needed if column not in columns]:
        raise UserError(
            f"'{file}' has no column '{missing[0]}': the columns path, NAME_x and NAME_y of every keypoint are needed, "
            f"and it has {first_names(columns) or 'none'}",
            code="not-keypoints",
        )
    return names


def _place(file: Path, path: str, row: dict[str, str], name: str) -> tuple[float, float]:
    """Return a keypoint in pixels; NaN where one of its cells is empty."""
    texts = [(row.get(f"{name}_{axis}") or "").strip() for axis in "xy"]
    if not all(texts):
        return math.nan, math.nan
    try:
        x, y = map(float, texts)
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise UserError(
            f"'{file}' places '{name}' of '{path}' at ({', '.join(texts)}), which are no two numbers: give pixels, or "
            "leave both cells empty",
            code="not-keypoints",
        )
    return x, y
