"""Leave images out by their names."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from limbeck.data.check.issues import Issue
from limbeck.data.decode import UndecodableError
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.base import ImageSource, Sample


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Patterns of paths such as `*_mask.png`, `masks` (a file or folder of that name) or `2019/*/raw*`.

    A pattern without a slash must match one part of a path, one with a slash all of it.
    """

    exclude: tuple[str, ...] = ()
    """Images that match one of these are left out."""
    only: tuple[str, ...] = ()
    """If there are any, images that match none of these are left out."""

    @classmethod
    def by(cls, exclude: str | Sequence[str], only: str | Sequence[str]) -> "Selection":
        """Return the selection by patterns, of which a single one need not be in a list."""
        several = [(patterns,) if isinstance(patterns, str) else tuple(patterns) for patterns in (exclude, only)]
        return cls(exclude=several[0], only=several[1])

    def __str__(self) -> str:
        flags = ((f"--{name}", getattr(self, name)) for name in ("exclude", "only"))
        return " ".join(f"{flag} {' '.join(map(shlex.quote, patterns))}" for flag, patterns in flags if patterns)

    def excluded(self, path: str) -> Issue | None:
        """Return why a path is left out; None where it is not."""
        if found := [pattern for pattern in self.exclude if matches(path, pattern)]:
            return Issue("excluded", f"--exclude {found[0]}")
        if self.only and not any(matches(path, pattern) for pattern in self.only):
            return Issue("excluded", f"--only {' '.join(self.only)}")
        return None

    def mark(self, source: ImageSource) -> ImageSource:
        """Return the source with its selection recorded, and with another fingerprint if anything is excluded."""
        if self == Selection():
            return source
        parts = (source.fingerprint or "", "exclude", *self.exclude, "only", *self.only)
        changed = None if source.fingerprint is None else fingerprint(parts)
        return replace(source, exclude=self.exclude, only=self.only, fingerprint=changed)

    def of(self, source: ImageSource) -> ImageSource:
        """Return the source without what is left out, which is counted as ignored."""
        if self == Selection():
            return source

        def selected(samples: Iterator[Sample]) -> Iterator[Sample]:
            for sample in samples:
                issue = self.excluded(sample.path)
                yield sample if issue is None else sample._replace(content=UndecodableError(issue.detail, issue.name))

        every_nth = source.every_nth
        chosen = replace(
            source,
            samples=lambda: selected(source.samples()),
            every_nth=None if every_nth is None else lambda step: selected(every_nth(step)),
        )
        return self.mark(chosen)


EVERYTHING = Selection()


def matches(path: str, pattern: str) -> bool:
    """Return whether a pattern fits a path."""
    names: Sequence[str] = [path] if "/" in pattern else path.split("/")
    return any(fnmatchcase(name, pattern) for name in names)
