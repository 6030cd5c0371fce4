"""Protocol of the kinds of sources, and what a module declares to be one."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from limbeck.data.check.issues import Issue
from limbeck.data.decode import Content
from limbeck.data.fingerprint import FileState

SAMPLE_SIZE = 256  # samples that the size of a store is chosen from


class Sample(NamedTuple):
    """One sample before decoding."""

    path: str  # where it comes from, for people
    content: Content
    label: int = -1  # -1: none
    issues: tuple[Issue, ...] = ()  # of its place


class LeftOut(NamedTuple):
    """A file, a folder or a member of an archive that is no sample, and why."""

    path: str
    issue: Issue


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Samples in an order that never changes."""

    name: str
    samples: Callable[[], Iterator[Sample]]
    """Starts from the first sample at each call."""
    count: int | None
    """Number of samples; None where only reading to the end would tell."""
    label_names: list[str] = field(default_factory=list)
    """Complete when all samples were read."""
    label_origin: str = ""
    """Origin of the labels: completes the sentence "3 classes from ..."."""
    label_problems: Counter[str] = field(default_factory=Counter)
    """Why samples have no label, and how many of them; complete when all samples were read."""
    left_out: Sequence[LeftOut] = ()
    """Everything in the source that is no sample."""
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    """Patterns by which images were left out; see `selection`."""
    max_images: int | None = None
    """Number of samples that were drawn at random from the source; None: all of them."""
    depth: Literal["distance", "inverse"] | None = None
    """What the values are, if the images are made of depth (`limbeck.data.depth`)."""
    fingerprint: str | None = None
    """Changes when the source does; None where only reading everything would tell."""
    files: Callable[[], Iterator[FileState]] = lambda: iter(())
    """States of the files that the fingerprint is made of."""
    paths: Callable[[], Iterator[str]] | None = None
    """The paths of all samples, for sources where they can be had without the contents."""
    every_nth: Callable[[int], Iterator[Sample]] | None = None
    """Every n-th sample, for sources where skipping the others is cheap."""

    def preview(self) -> Iterator[Sample]:
        """Return about `SAMPLE_SIZE` samples: from the whole source where that is cheap, else the first ones."""
        if self.every_nth is not None and self.count is not None:
            return self.every_nth(max(1, self.count // SAMPLE_SIZE))
        return islice(self.samples(), SAMPLE_SIZE)


@dataclass(frozen=True, kw_only=True)
class SourceType:
    """A kind of source: the files, folders, names or Python objects that it recognizes, and how it opens them."""

    description: str
    """Completes the sentence "give ..." of an error message: the files, folders and names; "" if there are none."""
    objects: str = ""
    """The same of the Python objects, which no command line can give."""
    suffixes: tuple[str, ...] = ()
    """Ends of the names of files that `open_files` reads, in lower case."""
    open_files: Callable[[Sequence[Path], str], ImageSource] | None = None
    """Opens files of these suffixes, in the order given, under a name."""
    several_files: bool = True
    """Whether several files can be one source; a folder without images is then searched for them, too."""
    accepts: Callable[[Any], bool] = lambda value: False
    """Whether `open_value` opens a folder (a Path), a Python object, or a string that is not an existing path."""
    open_value: Callable[[Any], ImageSource] | None = None

    def reads(self, name: str) -> bool:
        """Return whether `open_files` reads a file, by its name."""
        return name.lower().endswith(self.suffixes) if self.suffixes else False
