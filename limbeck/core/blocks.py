"""Arrays on the disk that several processes fill block by block, in any order, and continue after a kill."""

import shutil
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from limbeck.core.disk import fsync, make_folder, reserve, write_errors_as_user_error
from limbeck.core.files import atomic_write
from limbeck.core.locks import LOCK

Shape = tuple[int, ...]
SECONDS = 0.2  # between two looks at blocks that other processes compute


class BlockArrays:
    """Arrays of the same number of rows, as files NAME.npy of one folder.

    A block counts once its rows are synced to the disk and, after that, a file with its number is there. Whatever ends
    the processes, others go on with the blocks that are missing, whatever their number.

    Args:
        folder: nobody else's; its name must follow from everything that the rows are a function of, and the block.
        rows: number of rows of every array.
        shapes: shape of a row, by name.
        block: rows of a block; the last one may be smaller.
        dtype: type of the values; or one for each name.
    """

    def __init__(
        self,
        folder: Path,
        rows: int,
        shapes: Mapping[str, Shape],
        block: int,
        dtype: type[np.generic] | Mapping[str, type[np.generic]] = np.float32,
    ) -> None:
        self.folder, self.rows, self.shapes, self.block = folder, rows, shapes, block
        self.dtypes = {name: np.dtype(dtype[name] if isinstance(dtype, Mapping) else dtype) for name in shapes}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(self.rows * int(np.prod(shape)) * self.dtypes[name].itemsize for name, shape in self.shapes.items())

    def create(self) -> None:
        """Make the files that are not there yet, in their whole size; UserError where the disk has no room."""
        make_folder(self.folder)
        for name, shape in self.shapes.items():
            path = self._file(name)
            if path.exists():
                continue
            for mark in self.folder.glob("*.done"):  # of files that have gone, such as to their place
                mark.unlink()
            with atomic_write(path) as unfinished:
                whole = (self.rows, *shape)
                np.lib.format.open_memmap(unfinished, mode="w+", dtype=self.dtypes[name], shape=whole)
                with unfinished.open("r+b") as file:
                    reserve(file, unfinished.stat().st_size)

    def missing(self) -> list[slice]:
        """Return the rows of the blocks that do not count yet."""
        starts = range(0, self.rows, self.block)
        return [slice(s, min(s + self.block, self.rows)) for s in starts if not self._mark(s).exists()]

    def claimed(self) -> Generator[slice, None, None]:
        """Yield the rows of the blocks that are missing and that no other process computes, to be written at once.

        Ends when every block counts. A block that a process was killed over goes to another one. Blocks are claimed
        under the lock of the folder around, which whoever calls `move_to` holds as well.
        """
        while True:
            with FileLock(self.folder.parent / LOCK):
                missing = self.missing() if self.folder.is_dir() else []
                claim = next((found for found in map(self._claim, missing) if found), None)
            if not missing:
                return
            if claim is None:
                time.sleep(SECONDS)
                continue
            rows, lock = claim
            try:
                yield rows
            finally:
                lock.release()

    def _claim(self, rows: slice) -> tuple[slice, FileLock] | None:
        lock = FileLock(self.folder / f"{rows.start}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return rows, lock

    def write(self, rows: slice, values: Mapping[str, NDArray[Any]]) -> None:
        """Store the rows of one block, for every name."""
        for name, shape in self.shapes.items():
            path, found = self._file(name), np.ascontiguousarray(values[name], self.dtypes[name])
            assert found.shape == (rows.stop - rows.start, *shape), f"{name}: {found.shape}"
            with write_errors_as_user_error(path), path.open("r+b") as file:
                header = path.stat().st_size - self.dtypes[name].itemsize * self.rows * int(np.prod(shape))
                file.seek(header + rows.start * found[0].nbytes)
                file.write(found.data)
            fsync(path)
        with write_errors_as_user_error(self.folder):
            self._mark(rows.start).touch()

    def move_to(self, folder: Path) -> None:
        """Give the files, which are complete, their place in `folder`, and remove the own folder."""
        for name in self.shapes:
            self._file(name).replace(folder / f"{name}.npy")
        fsync(folder)
        shutil.rmtree(self.folder)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _mark(self, start: int) -> Path:
        return self.folder / f"{start}.done"
