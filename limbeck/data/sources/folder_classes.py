"""Classes that the folders of a tree stand for, whether it lies in a folder or in an archive."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from limbeck.core.text import first_names, plural
from limbeck.data.sources.labels import class_name
from limbeck.data.sources.names import split_of

STRAY_SHARE = 0.05  # of images outside the sub-folders: with more of them, the sub-folders are hardly meant as classes


@dataclass(frozen=True, kw_only=True)
class FolderClasses:
    """The classes, and which folder of a path is its class."""

    names: list[str] = field(default_factory=list)
    origin: str = "the sub-folders"
    problem: str = ""
    """Why there are no classes."""
    single: str = ""
    """The folder that all images are in, which is a class only where other images have a class of this name."""
    level: int = 0
    """Number of the folder in a path, from 0."""
    reports_outside: bool = False
    """Whether images outside the sub-folders keep these from being classes."""

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def label(self, path: str) -> int:
        """Return the class number of a path, -1 where it has none."""
        folders = folders_of(path)
        return self._numbers.get(class_name(folders[self.level]), -1) if len(folders) > self.level else -1

    def is_stray(self, path: str) -> bool:
        """Return whether an image is one of a few outside folders that look like classes."""
        return self.reports_outside and len(folders_of(path)) <= self.level


def folders_of(path: str) -> list[str]:
    """Return the folders of a relative path, the outermost first."""
    return path.split("/")[:-1]


def find_classes(paths: Iterable[str]) -> FolderClasses:
    """Return the classes of images by their paths.

    A class is a first-level folder or, where all of these are splits such as `train` and `val`, a second-level one. All
    images must be in one, and there must be at least two.
    """
    heads = Counter(tuple(folders_of(path)[:2]) for path in paths)
    tops = sorted({head[0] for head in heads if head})
    level = int(bool(tops) and () not in heads and all(split_of(top) for top in tops))
    folders = Counter[str]()
    for head, count in heads.items():
        folders[class_name(head[level]) if len(head) > level else ""] += count
    outside = folders.pop("", 0)
    where = f"the sub-folders of {first_names(tops)}" if level else "the sub-folders"
    if outside and len(folders) > 1:
        few = outside <= STRAY_SHARE * heads.total()
        reason = f"{plural(outside, 'image')} {'is' if outside == 1 else 'are'} outside {where}"
        return FolderClasses(problem=reason, level=level, reports_outside=few)
    if len(folders) < 2:
        only = f"all images are in one folder, {first_names(list(folders))}" if folders else "there are no sub-folders"
        single = "" if outside else next(iter(folders), "")
        return FolderClasses(problem=f"{only} of {first_names(tops)}" if level else only, level=level, single=single)
    return FolderClasses(names=sorted(folders), origin=where, level=level)
