"""A neighbour graph in a folder: two arrays and a manifest that says how many of their rows are done."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write, disk_full_as_user_error, sync

MANIFEST, ROWS, COSINES = "neighbours.json", "rows.npy", "cosines.npy"
SearchMethod = Literal["exact", "ivf"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a graph is a function of."""

    version: int = 1
    features: str
    """Digest of the features, given by who made them."""
    rows: str
    """Digest of the rows chosen."""
    images: int
    dim: int
    k: int
    max_similarity: float | None
    search: SearchMethod


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    settings: Settings
    done: int


class Kept:
    """The arrays of a graph, [n K] int32 and float32, in `folder`, written block by block.

    A block counts when the manifest says so, and that is written after the block is on the disk: whatever ends the
    process, the rows that are `done` are whole.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings, self.done = folder, settings, 0
        if (kept := read_settings(folder)) is None:
            with disk_full_as_user_error(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._tell()
        elif kept != settings:
            raise UserError(f"'{folder}' holds another graph ({_difference(kept, settings)}): choose another folder")
        else:
            self.done = _manifest(folder).done
        if self.done == 0:
            self._allocate()

    def write(self, rows: NDArray[np.int32], cosines: NDArray[np.float32]) -> None:
        """The next rows [b K] of both arrays."""
        for name, values in ((ROWS, rows), (COSINES, cosines)):
            path = self.folder / name
            with disk_full_as_user_error(path):
                with path.open("r+b") as file:
                    np.lib.format.read_magic(file)
                    np.lib.format.read_array_header_1_0(file)
                    file.seek(self.done * self.settings.k * 4, 1)
                    file.write(np.ascontiguousarray(values).data)
                sync(path)
        self.done += len(rows)
        self._tell()

    def read(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Both arrays; UserError where they are not what the manifest says."""
        found = []
        for name, kind in ((ROWS, np.int32), (COSINES, np.float32)):
            try:
                values = np.load(self.folder / name, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(f"'{self.folder / name}' is damaged ({one_line(error)}): delete the folder") from error
            if values.shape != (self.settings.images, self.settings.k) or values.dtype != kind:
                raise UserError(f"'{self.folder / name}' holds {values.dtype} {values.shape}: delete the folder")
            found.append(values)
        return found[0], found[1]

    def _allocate(self) -> None:
        for name, kind in ((ROWS, np.int32), (COSINES, np.float32)):
            with disk_full_as_user_error(self.folder / name):
                shape = self.settings.images, self.settings.k
                np.lib.format.open_memmap(self.folder / name, mode="w+", dtype=kind, shape=shape, version=(1, 0))

    def _tell(self) -> None:
        with atomic_write(self.folder / MANIFEST) as unfinished:
            unfinished.write_text(json.dumps(to_json(_Manifest(settings=self.settings, done=self.done)), indent=2))


def read_settings(folder: Path) -> Settings | None:
    """The settings of the graph in `folder`, finished or not; None where there is nothing.

    Raises:
        UserError: there is something else.
    """
    if (folder / MANIFEST).is_file():
        return _manifest(folder).settings
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise UserError(f"'{folder}' exists and holds no neighbour graph: choose another folder")
    return None


def _manifest(folder: Path) -> _Manifest:
    try:
        return from_json(_Manifest, json.loads((folder / MANIFEST).read_bytes()))
    except (OSError, ValueError) as error:  # a UserError of another version is a ValueError, too
        raise UserError(f"'{folder / MANIFEST}' cannot be read ({one_line(error)}): delete the folder") from error


def _difference(kept: Settings, wanted: Settings) -> str:
    old, new = asdict(kept), asdict(wanted)
    return ", ".join(f"{key} is {old[key]!r} there and {new[key]!r} here" for key in old if old[key] != new[key])
