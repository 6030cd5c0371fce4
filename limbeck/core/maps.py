"""Files that are mapped into memory, whose pages are given back while they are read.

The pages of a file that a process has read count as its memory until the system needs them elsewhere, so that a pass
over a store of 200 GB looks like a process of 200 GB. Given back, they stay in the cache of the system, from which the
next access maps them again without reading the disk.
"""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RELEASE = 2**25
"""Bytes that are read between two releases: a row of 3 KB maps 64 KB, since the system maps pages in groups of 16."""
_ADVICE = getattr(mmap, "MADV_DONTNEED", None)  # not on Windows


class PageCounter:
    """Gives the pages of a map back after every `RELEASE` bytes that were read of it."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map, self._read = mapped, 0

    def note(self, size: int) -> None:
        """Take note that `size` bytes were read."""
        self._read += size
        if self._read >= RELEASE and _ADVICE is not None:
            self._read = 0
            self._map.madvise(_ADVICE)


class MappedArray(np.memmap):
    """A read-only memory map of a file that gives its pages back while it is indexed."""

    _pages: PageCounter | None = None

    def __getitem__(self, key: Any) -> Any:
        """Return rows as `np.memmap` does."""
        found = super().__getitem__(key)
        self.note(found.nbytes)
        return found

    def note(self, size: int) -> None:
        """Take note that `size` bytes were read in another way than by an index."""
        mapped = getattr(self, "_mmap", None)
        if isinstance(mapped, mmap.mmap):
            self._pages = self._pages or PageCounter(mapped)
            self._pages.note(size)


def map_array(file: Path) -> NDArray[Any]:
    """Map the array of a .npy file; errors are those of `np.lib.format.open_memmap`."""
    found = np.lib.format.open_memmap(file, mode="r")
    if not found.flags.c_contiguous:  # Fortran's order, which is rare
        return found
    return MappedArray(file, found.dtype, "r", found.offset, found.shape)
