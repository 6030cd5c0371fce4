"""Images in a folder, with or without one subfolder per class."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.data.check.issues import Issue
from limbeck.data.fingerprint import file_state, fingerprint, state_fingerprint
from limbeck.data.sources.base import ImageSource, Sample, SourceType

# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".ico", ".qoi",
))
# fmt: on
ROOT_IMAGE = (Issue("root_image", "at the root, next to subfolders with images"),)
SOURCE = SourceType(description="a folder of images")
"""The default for every folder that no other kind of source accepts."""


def is_image(name: str) -> bool:
    """Return whether a file is to be decoded: it has an image's suffix, in any case, and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def open_folder(folder: Path) -> ImageSource:
    """Return every image below `folder`, in the order of the names; there may be none.

    The first-level subfolder is the class if all images are in one and there are at least two. Links are followed and
    every directory is read once, so that cycles end. Hidden directories are left out.
    """
    classes: set[str] = set()
    ignored: list[str] = []
    count, has_root_images, state = 0, False, ""
    for path in walk(folder):
        if not is_image(os.path.basename(path)):
            ignored.append(path)
            continue
        top, below, _ = path.partition(os.sep)
        has_root_images = has_root_images or not below
        classes.update([top] if below else [])
        state = fingerprint([state, state_fingerprint([file_state(folder / path, path)])])
        count += 1
    has_classes = len(classes) > 1
    names = sorted(classes) if has_classes and not has_root_images else []
    samples = partial(folder_samples, folder, {name: label for label, name in enumerate(names)}, has_classes)
    return ImageSource(
        name=str(folder),
        samples=samples,
        count=count,
        label_names=names,
        ignored=ignored,
        fingerprint=state,
        files=lambda: (file_state(s.content, s.path) for s in samples() if isinstance(s.content, Path)),
        every_nth=lambda step: islice(samples(), 0, None, step),
    )


def folder_samples(folder: Path, labels: dict[str, int], has_classes: bool) -> Iterator[Sample]:
    """Yield the images below `folder` with the label of their first-level subfolder."""
    for path in walk(folder):
        if is_image(os.path.basename(path)):
            top, below, _ = path.partition(os.sep)
            issues = ROOT_IMAGE if has_classes and not below else ()
            yield Sample(path, folder / path, labels.get(top, -1), issues)


def walk(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below `folder`, relative to it and sorted by name, no directory twice."""
    visited: set[tuple[int, int]] = set()

    def below(directory: Path, prefix: str) -> Iterator[str]:
        state = directory.stat()
        if (state.st_dev, state.st_ino) in visited:
            return
        visited.add((state.st_dev, state.st_ino))
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            # for a link to itself, entry.is_dir raises an error and os.path.isdir returns False
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path) if is_link else entry.is_dir():
                if not entry.name.startswith("."):
                    yield from below(directory / entry.name, f"{prefix}{entry.name}{os.sep}")
            elif is_link or entry.is_file():  # a broken link is a file that cannot be read, and is reported as one
                yield prefix + entry.name

    try:
        yield from below(folder, "")
    except PermissionError as error:
        raise UserError(
            f"the folder '{error.filename}' cannot be read: {error.strerror}; change its permissions",
            code="not-readable",
        ) from error
