"""Images in a folder, with or without one sub-folder per class."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.data.check.issues import Issue
from limbeck.data.fingerprint import file_state, fingerprint, state_fingerprint
from limbeck.data.sources.base import Item, Rows

# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".ico", ".qoi",
))
# fmt: on
STRAY = (Issue("stray", "at the root, beside sub-folders with images"),)


def is_image(name: str) -> bool:
    """Whether a file is to be decoded: an image's suffix in any case, and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def folder_rows(folder: Path) -> Rows:
    """Every image below `folder`, in the order of the names.

    The first-level sub-folder is the class when all images lie in one and there are at least two. Links are followed
    and every directory is read once, so that cycles end. Hidden directories are left out. The images may be none.
    """
    classes: set[str] = set()
    ignored: list[str] = []
    images, rooted, state = 0, False, ""
    for path in walk(folder):
        if not is_image(os.path.basename(path)):
            ignored.append(path)
            continue
        top, below, _ = path.partition(os.sep)
        rooted = rooted or not below
        classes.update([top] if below else [])
        state = fingerprint([state, state_fingerprint([file_state(folder / path, path)])])
        images += 1
    several = len(classes) > 1
    names = sorted(classes) if several and not rooted else []
    items = partial(folder_items, folder, {name: label for label, name in enumerate(names)}, several)
    return Rows(
        name=str(folder),
        items=items,
        count=images,
        label_names=names,
        ignored=ignored,
        fingerprint=state,
        files=lambda: (file_state(item.content, item.path) for item in items() if isinstance(item.content, Path)),
        spread=lambda step: islice(items(), 0, None, step),
    )


def folder_items(folder: Path, labels: dict[str, int], several: bool) -> Iterator[Item]:
    """Images below `folder` with the label of their first-level sub-folder; at the root beside `several`, a stray."""
    for path in walk(folder):
        if is_image(os.path.basename(path)):
            top, below, _ = path.partition(os.sep)
            yield Item(path, folder / path, labels.get(top, -1), STRAY if several and not below else ())


def walk(folder: Path) -> Iterator[str]:
    """Paths of all files below `folder`, relative to it and sorted by name; links followed, no directory twice."""
    seen: set[tuple[int, int]] = set()

    def below(directory: Path, prefix: str) -> Iterator[str]:
        state = directory.stat()
        if (state.st_dev, state.st_ino) in seen:
            return
        seen.add((state.st_dev, state.st_ino))
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            # a link to itself raises in entry.is_dir, and is False in os.path
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path) if is_link else entry.is_dir():
                if not entry.name.startswith("."):
                    yield from below(directory / entry.name, f"{prefix}{entry.name}{os.sep}")
            elif is_link or entry.is_file():  # a broken link is a file that cannot be read, and is reported as one
                yield prefix + entry.name

    try:
        yield from below(folder, "")
    except PermissionError as error:
        raise UserError(f"the folder '{error.filename}' cannot be read: {error.strerror}") from error
