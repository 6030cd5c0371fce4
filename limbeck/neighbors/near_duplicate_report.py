"""The report of near-duplicates: a table, a section with thumbnails for the page of a check, and a sentence."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, make_folder
from limbeck.data.check.page import PICTURES, Picture, Section, thumbnail
from limbeck.data.check.scan import write_page
from limbeck.data.decode import decode
from limbeck.data.store.layout import INDEX, Pixels
from limbeck.data.store.store import Store
from limbeck.neighbors.graph import Say
from limbeck.neighbors.near_duplicates import ABOVE, Describe, Matches, duplicates, leaks, thumbnails

CSV = "near_duplicates.csv"
COLUMNS = ["row", "path", "cosine", "other_row", "other_path", "other_in", "group"]


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Near-duplicates within a store, and of it in another one."""

    store: Store
    within: Matches
    against: Store | None
    leaked: Matches | None

    def sentence(self) -> str:
        """How many there are."""
        total, groups = len(self.store), 0 if self.within.groups is None else len(set(self.within.groups))
        parts = [f"{len(self.within.rows):,} of {total:,} images have a near-duplicate, in {groups:,} groups"]
        if self.against and self.leaked:
            leaked = len(self.leaked.rows)
            share, where = leaked / total, f"the {len(self.against):,} of {_place(self.against)}"
            parts.append(f"{leaked:,} ({share:.2%}) have one among {where}")
        return "; ".join(parts)

    def sections(self) -> list[Section]:
        """For the page of a check: the pairs that are most alike, side by side."""
        found = [_section("pairs of near-duplicates", self.store, self.store, self.within)]
        if self.against and self.leaked:
            title = f"near-duplicates in {_place(self.against)}"
            found.append(_section(title, self.store, self.against, self.leaked))
        return [section for section in found if section.count]

    def write(self, folder: Path) -> Path:
        """Write near_duplicates.csv, a row for every image with a near-duplicate, and the same for the other store."""
        make_folder(folder)
        with atomic_write(folder / CSV) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows(_lines(self.store, self.store, self.within))
            if self.against and self.leaked:
                table.writerows(_lines(self.store, self.against, self.leaked))
        return folder / CSV

    def write_page(self, folder: Path, sentence: str) -> None:
        """Write check.html for a store, of which there are no findings in files."""
        write_page(folder, sentence, f"{self.sentence()}; listed in {CSV}.", self.sections())


def find_near_duplicates(
    store: Store,
    against: Store | None = None,
    *,
    describe: Describe = thumbnails,
    above: float = ABOVE,
    say: Say = lambda sentence: None,
) -> NearDuplicates:
    """Near-duplicates within `store`, and its images of which `against` holds a near-duplicate.

    Args:
        store: where to look.
        against: usually the test set of a training set, or the other way round.
        describe: what images are compared by; a teacher's features find what thumbnails cannot, such as crops.
        above: the cosine from which on two images count as near-duplicates.
        say: see `neighbours`.
    """
    if not 0 < above <= 1:
        raise UserError(f"near-duplicates above a cosine of {above} cannot be: give more than 0 and at most 1")
    features = describe(store)
    leaked = None if against is None else leaks(features, describe(against), above)
    return NearDuplicates(store=store, within=duplicates(features, above, say), against=against, leaked=leaked)


def _section(title: str, store: Store, other: Store, matches: Matches) -> Section:
    pairs = _pairs(matches, store is other)
    best = pairs[:PICTURES]
    rows, others = matches.rows[best], matches.others[best]
    names = zip(_names(store, rows), _names(other, others), strict=True)
    shown = [
        Picture(name, f"cosine {cosine:.3f} with {twin}", _side_by_side(store.images[i], other.images[j]))
        for (name, twin), i, j, cosine in zip(names, rows, others, matches.cosines[best], strict=True)
    ]
    advice = (
        "look at the pairs: a picture in training and test, or frames of one film, make numbers better than they are"
    )
    return Section(title=title, count=len(pairs), advice=advice, pictures=shown)


def _pairs(matches: Matches, same: bool) -> NDArray[np.int64]:
    """Which of the matches to show, the most alike first; two images that name each other are one pair."""
    best = np.argsort(-matches.cosines, kind="stable")
    if not same:
        return best
    ends = np.sort(np.stack([matches.rows, matches.others], axis=1), axis=1)[best]
    return best[np.sort(np.unique(ends, axis=0, return_index=True)[1])]


def _side_by_side(left: Pixels, right: Pixels) -> str:
    size = len(left)
    return thumbnail(np.concatenate([left, decode(right, size).pixels], axis=1), 2 * size, size)


def _lines(store: Store, other: Store, matches: Matches) -> Iterator[tuple[object, ...]]:
    """As `COLUMNS`."""
    groups = [""] * len(matches.rows) if matches.groups is None else matches.groups.tolist()
    where = "" if store is other else _place(other)
    paths = _paths(store, matches.rows), _paths(other, matches.others)
    for row, path, twin, twin_path, cosine, group in zip(
        matches.rows.tolist(), paths[0], matches.others.tolist(), paths[1], matches.cosines, groups, strict=True
    ):
        yield row, path, f"{cosine:.4f}", twin, twin_path, where, group


def _paths(store: Store, rows: NDArray[np.int64]) -> list[str]:
    """Of rows in the source, as the store remembers them; empty where it is in memory."""
    if store.path is None:
        return [""] * len(rows)
    return [path or "" for path in pq.read_table(store.path / INDEX, columns=["path"])["path"].take(rows).to_pylist()]


def _names(store: Store, rows: NDArray[np.int64]) -> list[str]:
    return [path or f"row {row}" for path, row in zip(_paths(store, rows), rows, strict=True)]


def _place(store: Store) -> str:
    return str(store.path or "memory")
