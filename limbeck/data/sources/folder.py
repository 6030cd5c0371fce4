"""Images in a folder, with or without one subfolder per class."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from limbeck.core.errors import UserError
from limbeck.core.progress import progress_bar
from limbeck.core.text import plural
from limbeck.data.check.issues import Issue
from limbeck.data.fingerprint import file_state, fingerprint, state_fingerprint
from limbeck.data.sources.base import ImageSource, LeftOut, Sample, SourceType
from limbeck.data.sources.folder_classes import FolderClasses, find_classes
from limbeck.data.sources.names import why_ignored

logger = logging.getLogger(__name__)
ROOT_IMAGE = (Issue("root_image", "outside the subfolders that look like classes"),)
SOURCE = SourceType(description="a folder of images")
"""The default for every folder that no other kind of source accepts."""


class Entry(NamedTuple):
    """A file of a folder, or a directory in it that cannot be read or was read already."""

    path: str  # relative to the folder
    issue: Issue | None = None  # why it is not taken for an image


Excluded = Callable[[str], Issue | None]
"""Return why a path is left out by the wish of the user; None where it is not."""


def open_folder(folder: Path, excluded: Excluded = lambda path: None) -> ImageSource:
    """Return every image below `folder`, in the order of the names; there may be none.

    For the classes see `find_classes`. Links are followed and every directory is read once, so that cycles end. What
    cannot be read is left out and listed.

    Raises:
        UserError: the folder itself cannot be read.
    """
    images, left_out, state = list[str](), list[LeftOut](), ""
    with progress_bar(None, "listing files", unit="files") as bar:
        for path, issue in classified(folder, excluded):
            bar.advance()
            if issue is not None:
                left_out.append(LeftOut(path, issue))
                continue
            state = fingerprint([state, state_fingerprint([file_state(folder / path, path)])])
            images.append(path)
    _check_root(folder, left_out)
    classes = find_classes(images)
    count = len(images)
    del images  # a million paths: read again from the folder
    samples = partial(folder_samples, folder, classes, excluded, count)
    return ImageSource(
        name=str(folder),
        samples=samples,
        count=count,
        label_names=classes.names,
        label_origin=classes.origin,
        label_problems=Counter({classes.problem: count} if classes.problem else {}),
        left_out=left_out,
        fingerprint=state,
        files=lambda: (file_state(s.content, s.path) for s in samples() if isinstance(s.content, Path)),
        every_nth=lambda step: islice(samples(), 0, None, step),
    )


def _check_root(folder: Path, left_out: list[LeftOut]) -> None:
    for path, issue in left_out:
        if not path:
            raise UserError(
                f"the folder '{folder}' cannot be read: {issue.detail}; change its permissions", code="not-readable"
            )


def folder_samples(folder: Path, classes: FolderClasses, excluded: Excluded, listed: int) -> Iterator[Sample]:
    """Yield the images below `folder` with their class; warn in the end where they are not as many as were listed."""
    found = 0
    for path, issue in classified(folder, excluded):
        if issue is None:
            found += 1
            yield Sample(path, folder / path, classes.label(path), ROOT_IMAGE if classes.is_stray(path) else ())
    if found != listed:
        logger.warning(
            "the folder '%s' changed while it was read: first it had %s, in the end %s; run the command again for all",
            folder,
            plural(listed, "image"),
            f"{found:,}",
        )


def classified(folder: Path, excluded: Excluded) -> Iterator[Entry]:
    """Yield all entries below `folder`, with an issue where they are not taken for images."""
    for path, issue in walk(folder):
        if issue is None and (reason := why_ignored(path)):
            issue = Issue("not_an_image", reason)
        yield Entry(path, issue or excluded(path))


def walk(folder: Path) -> Iterator[Entry]:
    """Yield all files below `folder`, sorted by name, no directory twice, and the directories that are not read.

    Without recursion, since folders may be nested deeper than Python's calls.
    """
    visited: set[tuple[int, int]] = set()
    stack = [iter(_read_directory(folder, "", visited))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif isinstance(found, Entry):
            yield found
        else:
            stack.append(iter(_read_directory(folder, found, visited)))


def _read_directory(folder: Path, prefix: str, visited: set[tuple[int, int]]) -> list[Entry | str]:
    """Return files as entries and subdirectories as prefixes of paths; one entry where that is not possible."""
    directory = os.path.join(folder, prefix)
    try:
        state = os.stat(directory)
        if (state.st_dev, state.st_ino) in visited:
            return [Entry(prefix, Issue("not_an_image", "a link to a folder that is read elsewhere"))]
        visited.add((state.st_dev, state.st_ino))
        with os.scandir(directory) as entries:
            names = sorted((entry.name, _is_directory(entry)) for entry in entries)
    except OSError as error:
        return [Entry(prefix, Issue("unreadable_part", error.strerror or str(error)))]
    return [f"{prefix}{name}/" if is_directory else Entry(prefix + name) for name, is_directory in names]


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory, links followed; what cannot be looked up is a file that is unreadable."""
    try:
        return stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
    except OSError:
        return False
