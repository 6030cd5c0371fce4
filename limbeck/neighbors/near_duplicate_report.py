"""Report near-duplicates: a CSV table, a section with thumbnails for the page of `limbeck check`, and a sentence."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, check_ours
from limbeck.core.locks import wait_for_folder
from limbeck.core.runners.run import RunnerConfig, check_runner
from limbeck.core.text import csv_cell, plural, printable
from limbeck.data.check.page import PICTURES, SIDE, Picture, Section
from limbeck.data.check.scan import write_page
from limbeck.data.decode import decode
from limbeck.data.store.layout import INDEX, Pixels
from limbeck.data.store.open import cache_folder, source_name
from limbeck.data.store.store import Store
from limbeck.data.thumbnail import thumbnail
from limbeck.neighbors.config import SIMILARITY_THRESHOLD
from limbeck.neighbors.near_duplicates import (
    FeatureFn,
    Matches,
    Search,
    matches_across,
    matches_across_by_shards,
    matches_within,
    thumbnails,
)
from limbeck.neighbors.thumbnail_shards import thumbnails_by_shards

CSV = "near_duplicates.csv"
COLUMNS = ["row", "path", "cosine", "other_row", "other_path", "other_in", "group"]


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Near-duplicates within a store, and between it and a second store."""

    store: Store
    within: Matches
    against: Store | None
    across: Matches | None

    def sentence(self) -> str:
        """Return the number of near-duplicates, in one sentence."""
        total, groups = len(self.store), 0 if self.within.groups is None else len(set(self.within.groups))
        own = f"{len(self.within.indices):,} of {plural(total, 'image')}"
        parts = [f"{own} have a near-duplicate, in {plural(groups, 'group')}"]
        if self.against and self.across:
            count = len(self.across.indices)
            other = f"the {len(self.against):,} of {_place(self.against)}"
            parts.append(f"{count:,} ({count / total:.2%}) have one among {other}")
        return "; ".join(parts)

    def sections(self) -> list[Section]:
        """Return the sections of a page with the most similar pairs side by side."""
        found = [_section("pairs of near-duplicates", self.store, self.store, self.within)]
        if self.against and self.across:
            title = f"near-duplicates in {_place(self.against)}"
            found.append(_section(title, self.store, self.against, self.across))
        return [section for section in found if section.count]

    def write(self, folder: Path) -> Path:
        """Write near_duplicates.csv, one row per image with a near-duplicate in either store, and return its path."""
        make_folder(folder)
        check_ours(folder / CSV, ",".join(COLUMNS).encode(), "table")
        with atomic_write(folder / CSV) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows(_lines(self.store, self.store, self.within))
            if self.against and self.across:
                table.writerows(_lines(self.store, self.against, self.across))
        return folder / CSV

    def write_page(self, folder: Path, sentence: str) -> None:
        """Write check.html for a store, which has no issues in files to show."""
        write_page(folder, sentence, f"{self.sentence()}; listed in {CSV}.", self.sections())


def find_near_duplicates(
    store: Store,
    against: Store | None = None,
    *,
    features: FeatureFn = thumbnails,
    threshold: float = SIMILARITY_THRESHOLD,
    search: Search = "auto",
    runner: RunnerConfig | None = None,
) -> NearDuplicates:
    """Find near-duplicates within `store`, and images of `store` that have a near-duplicate in `against`.

    Args:
        store: the images to search.
        against: a second store, usually the test set of a training set or the reverse.
        features: computes the vectors to compare; those of a network find what thumbnails miss, such as crops.
        threshold: cosine from which two images count as near-duplicates.
        search: how those within `store` are searched, as for `matches_within`.
        runner: whose workers compute and compare thumbnails, in the cache; the stores have to be on the disk.

    Raises:
        UserError: a threshold outside (0, 1], or as `run_shards`.
    """
    check_threshold(threshold)
    if runner is not None:
        return _by_shards(store, against, threshold, runner)
    vectors = features(store)
    across = None if against is None else matches_across(vectors, features(against), threshold)
    return NearDuplicates(
        store=store, within=matches_within(vectors, threshold, search=search), against=against, across=across
    )


def check_threshold(threshold: float) -> None:
    """Raise UserError for a similarity that is no cosine of near-duplicates."""
    if not 0 < threshold <= 1:
        raise UserError(
            f"similarity threshold {threshold} is outside the range of a cosine; choose more than 0 and at most 1",
            code="threshold-out-of-range",
        )


def _by_shards(store: Store, against: Store | None, threshold: float, runner: RunnerConfig) -> NearDuplicates:
    """Find near-duplicates by the workers of a runner; what they found is in the cache, also for another command."""
    check_runner(runner)
    folder, across = _cache(store), None
    with wait_for_folder(folder):
        vectors = thumbnails_by_shards(store, folder, runner)
        within = matches_within(
            vectors, threshold, runner=runner, folder=folder / "graph", digest=f"thumbnails of {store.digest}"
        )
        if against is not None:
            other = vectors
            if against.digest != store.digest:
                with wait_for_folder(_cache(against)):
                    other = thumbnails_by_shards(against, _cache(against), runner)
            make_folder(place := folder / f"across-{against.digest[:16]}")
            across = matches_across_by_shards(vectors, other, threshold, runner, place)
    return NearDuplicates(store=store, within=within, against=against, across=across)


def _cache(store: Store) -> Path:
    return cache_folder(None) / f"near-duplicates-{store.digest[:16]}"


def _section(title: str, store: Store, other: Store, matches: Matches) -> Section:
    pairs = _pairs(matches, store is other)
    best = pairs[:PICTURES]
    left, right = matches.indices[best], matches.match_indices[best]
    names = zip(_names(store, left), _names(other, right), strict=True)
    shown = [
        Picture(name, f"cosine {cosine:.3f} with {match}", _side_by_side(store.images[i], other.images[j]))
        for (name, match), i, j, cosine in zip(names, left, right, matches.cosines[best], strict=True)
    ]
    advice = "check the pairs: an image in both training and test data, or frames of one film, inflate accuracies"
    return Section(title=title, count=len(pairs), advice=advice, pictures=shown)


def _pairs(matches: Matches, same_store: bool) -> NDArray[np.int64]:
    """Return the positions of the matches to show, most similar first; two that match each other are one pair."""
    best = np.argsort(-matches.cosines, kind="stable")
    if not same_store:
        return best
    ends = np.sort(np.stack([matches.indices, matches.match_indices], axis=1), axis=1)[best]
    return best[np.sort(np.unique(ends, axis=0, return_index=True)[1])]


def _side_by_side(left: Pixels, right: Pixels) -> str:
    size = len(left)
    return thumbnail(np.concatenate([left, decode(right, size).pixels], axis=1), 2 * size, size, SIDE)


def _lines(store: Store, other: Store, matches: Matches) -> Iterator[tuple[object, ...]]:
    """Yield the rows of the table, in the order of `COLUMNS`."""
    groups = [""] * len(matches.indices) if matches.groups is None else matches.groups.tolist()
    other_in = "" if store is other else _place(other)
    columns = (
        matches.indices.tolist(),
        _paths(store, matches.indices),
        matches.match_indices.tolist(),
        _paths(other, matches.match_indices),
        matches.cosines,
        groups,
    )
    for index, path, match, match_path, cosine, group in zip(*columns, strict=True):
        yield index, csv_cell(path), f"{cosine:.4f}", match, csv_cell(match_path), csv_cell(other_in), group


def _paths(store: Store, indices: NDArray[np.int64]) -> list[str]:
    """Return the paths of images in the source of the store; empty strings for a store in memory."""
    if store.path is None:
        return [""] * len(indices)
    paths = pq.read_table(store.path / INDEX, columns=["path"])["path"].take(indices).to_pylist()
    return [path or "" for path in paths]


def _names(store: Store, indices: NDArray[np.int64]) -> list[str]:
    return [printable(path) or f"row {index}" for path, index in zip(_paths(store, indices), indices, strict=True)]


def _place(store: Store) -> str:
    return source_name(store.path) if store.path else "memory"
