"""Leave images out: by their names, or at random where there are too many."""

import logging
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import compress

import numpy as np

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.check.issues import Issue
from limbeck.data.decode import UndecodableError
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.base import ImageSource, LeftOut, Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Patterns of paths such as `*_mask.png`, `masks` (a file or folder of that name) or `2019/*/raw*`.

    A pattern without a slash must match one part of a path, one with a slash all of it.
    """

    exclude: tuple[str, ...] = ()
    """Images that match one of these are left out."""
    only: tuple[str, ...] = ()
    """If there are any, images that match none of these are left out."""
    max_images: int | None = None
    """Of a source with more samples, so many are taken, drawn at random."""

    def __post_init__(self) -> None:
        """Raise UserError for fewer than one image."""
        if self.max_images is not None and self.max_images < 1:
            raise UserError(f"max_images is {self.max_images}: it must be at least 1", code="out-of-range")

    @classmethod
    def by(cls, exclude: str | Sequence[str], only: str | Sequence[str], max_images: int | None = None) -> "Selection":
        """Return the selection by patterns, of which a single one need not be in a list."""
        several = [(patterns,) if isinstance(patterns, str) else tuple(patterns) for patterns in (exclude, only)]
        return cls(exclude=several[0], only=several[1], max_images=max_images)

    def __str__(self) -> str:
        flags = ((f"--{name}", getattr(self, name)) for name in ("exclude", "only"))
        words = [f"{flag} {' '.join(map(shlex.quote, patterns))}" for flag, patterns in flags if patterns]
        return " ".join([*words, *([] if self.max_images is None else [f"--max-images {self.max_images}"])])

    def excluded(self, path: str) -> Issue | None:
        """Return why a path is left out; None where it is not."""
        if found := [pattern for pattern in self.exclude if matches(path, pattern)]:
            return Issue("excluded", f"--exclude {found[0]}")
        if self.only and not any(matches(path, pattern) for pattern in self.only):
            return Issue("excluded", f"--only {' '.join(self.only)}")
        return None

    def without_use(self, paths: Iterable[str]) -> set[str]:
        """Return the patterns of `exclude` that fit none of the paths."""
        unused = set(self.exclude)
        for path in paths if unused else ():
            unused -= {pattern for pattern in unused if matches(path, pattern)}
        return unused

    @staticmethod
    def report(unused: set[str], name: str) -> None:
        """Say which patterns fit nothing in a source: they may be misspelled."""
        if unused:
            patterns = " ".join(map(shlex.quote, sorted(unused)))
            logger.info("--exclude %s fits no name in '%s' (upper and lower case differ)", patterns, name)

    def mark(self, source: ImageSource) -> ImageSource:
        """Return the source, less what is too much, with its selection recorded and in its fingerprint."""
        source = at_most(source, self.max_images)
        if not self.exclude and not self.only:
            return source
        parts = (source.fingerprint or "", "exclude", *self.exclude, "only", *self.only)
        changed = None if source.fingerprint is None else fingerprint(parts)
        return replace(source, exclude=self.exclude, only=self.only, fingerprint=changed)

    def of(self, source: ImageSource) -> ImageSource:
        """Return the source without what is left out, which is counted as ignored.

        Raises:
            UserError: images are to be drawn, and none is left to draw from.
        """
        if not self.exclude and not self.only:
            return self.mark(source)
        if self.max_images is not None and source.count is not None:
            return self.mark(self._remaining(source))

        def selected(samples: Iterator[Sample]) -> Iterator[Sample]:
            for sample in samples:
                issue = self.excluded(sample.path)
                yield sample if issue is None else sample._replace(content=UndecodableError(issue.detail, issue.name))

        said = set[str]()

        def all_samples() -> Iterator[Sample]:
            unused = self.without_use(item.path for item in source.left_out)
            for sample in selected(source.samples()):
                unused -= {pattern for pattern in unused if matches(sample.path, pattern)}
                yield sample
            self.report(unused - said, source.name)
            said.update(unused)

        every_nth = source.every_nth
        chosen = replace(
            source,
            samples=all_samples,
            every_nth=None if every_nth is None else lambda step: selected(every_nth(step)),
        )
        return self.mark(chosen)

    def _remaining(self, source: ImageSource) -> ImageSource:
        """Return the source with all that is left out listed and counted, so that a draw is from the rest."""
        paths = list(source.paths() if source.paths else (sample.path for sample in source.samples()))
        issues = [self.excluded(path) for path in paths]
        remain = np.array([issue is None for issue in issues], bool)
        self.report(self.without_use([*(item.path for item in source.left_out), *paths]), source.name)
        left_out = [LeftOut(path, issue) for path, issue in zip(paths, issues, strict=True) if issue]
        if left_out and not remain.any():
            raise all_excluded(source.name, left_out)
        every_nth = source.every_nth
        return replace(
            source,
            samples=lambda: compress(source.samples(), remain),
            count=int(remain.sum()),
            paths=lambda: compress(paths, remain),
            left_out=[*source.left_out, *left_out],
            every_nth=None
            if every_nth is None
            else lambda step: (sample for sample in every_nth(step) if self.excluded(sample.path) is None),
        )


EVERYTHING = Selection()


def all_excluded(name: str, left_out: Sequence[LeftOut]) -> UserError:
    """Return the error that patterns leave nothing of a source."""
    return UserError(
        f"nothing is left of '{name}': {left_out[0].issue.detail} leaves out {plural(len(left_out), 'image')}, such as "
        f"{left_out[0].path}; change --exclude or --only",
        code="all-excluded",
    )


def at_most(source: ImageSource, count: int | None) -> ImageSource:
    """Return `count` samples that are drawn at random from a source, of which the number is known and larger."""
    total = source.count
    if count is None or total is None or total <= count:
        return source
    taken = np.zeros(total, bool)  # not every n-th: an order may have a period, such as one image of each class in turn
    taken[np.random.default_rng(0).permutation(total)[:count]] = True
    every_nth, name = source.every_nth, f"{count} of {total}"
    return replace(
        source,
        samples=lambda: compress(source.samples(), taken),
        every_nth=None if every_nth is None else lambda step: every_nth(step * total // count),
        count=count,
        max_images=count,
        fingerprint=None if source.fingerprint is None else fingerprint((source.fingerprint, name)),
    )


def matches(path: str, pattern: str) -> bool:
    """Return whether a pattern fits a path, or is a name in it; composed and decomposed Unicode are the same."""
    path, pattern = (unicodedata.normalize("NFC", text) for text in (path, pattern))
    names: Sequence[str] = [path] if "/" in pattern else path.split("/")
    return pattern in names or any(fnmatchcase(name, pattern) for name in names)
