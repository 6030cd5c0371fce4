"""A neighbor graph on disk: two arrays and a manifest with the number of finished rows."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write, disk_full_as_user_error, sync

MANIFEST, NEIGHBORS, COSINES = "graph.json", "neighbors.npy", "cosines.npy"
SearchMethod = Literal["exact", "ivf"]


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Everything that determines a graph."""

    version: int = 2
    features: str
    """Digest of the features, from the caller."""
    indices: str
    """Digest of the rows that take part."""
    images: int
    dim: int
    k: int
    max_similarity: float | None
    search: SearchMethod


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    settings: GraphSettings
    done: int


class GraphStorage:
    """The two arrays of a graph, [n K] int32 and float32, written to `folder` block by block.

    The manifest is written after a block is on the disk, so the first `done` rows are complete whatever ends the
    process.
    """

    def __init__(self, folder: Path, settings: GraphSettings) -> None:
        self.folder, self.settings, self.done = folder, settings, 0
        if (stored := read_settings(folder)) is None:
            with disk_full_as_user_error(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._write_manifest()
        elif stored != settings:
            raise UserError(
                f"'{folder}' holds another graph ({_difference(stored, settings)}); choose another folder or delete it",
                code="other-graph",
            )
        else:
            self.done = _manifest(folder).done
        if self.done == 0:
            self._allocate()

    def write(self, neighbors: NDArray[np.int32], cosines: NDArray[np.float32]) -> None:
        """Append rows [b K] to both arrays."""
        for name, values in ((NEIGHBORS, neighbors), (COSINES, cosines)):
            path = self.folder / name
            with disk_full_as_user_error(path):
                with path.open("r+b") as file:
                    np.lib.format.read_magic(file)
                    np.lib.format.read_array_header_1_0(file)
                    file.seek(self.done * self.settings.k * 4, 1)
                    file.write(np.ascontiguousarray(values).data)
                sync(path)
        self.done += len(neighbors)
        self._write_manifest()

    def read(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return both arrays.

        Raises:
            UserError: an array is damaged or does not fit the manifest.
        """
        found = []
        for name, kind in ((NEIGHBORS, np.int32), (COSINES, np.float32)):
            try:
                values = np.load(self.folder / name, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"'{self.folder / name}' is damaged ({one_line(error)}); delete the folder", code="damaged-graph"
                ) from error
            if values.shape != (self.settings.images, self.settings.k) or values.dtype != kind:
                raise UserError(
                    f"'{self.folder / name}' holds {values.dtype} {values.shape}; delete the folder",
                    code="damaged-graph",
                )
            found.append(values)
        return found[0], found[1]

    def _allocate(self) -> None:
        for name, kind in ((NEIGHBORS, np.int32), (COSINES, np.float32)):
            with disk_full_as_user_error(self.folder / name):
                shape = self.settings.images, self.settings.k
                np.lib.format.open_memmap(self.folder / name, mode="w+", dtype=kind, shape=shape, version=(1, 0))

    def _write_manifest(self) -> None:
        with atomic_write(self.folder / MANIFEST) as unfinished:
            unfinished.write_text(json.dumps(to_json(_Manifest(settings=self.settings, done=self.done)), indent=2))


def read_settings(folder: Path) -> GraphSettings | None:
    """Return the settings of the graph in `folder`, finished or not; None where the folder is missing or empty.

    Raises:
        UserError: the folder holds something else.
    """
    if (folder / MANIFEST).is_file():
        return _manifest(folder).settings
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise UserError(
            f"'{folder}' is not empty and holds no neighbor graph of this version; choose another folder or delete it",
            code="not-a-graph",
        )
    return None


def _manifest(folder: Path) -> _Manifest:
    try:
        return from_json(_Manifest, json.loads((folder / MANIFEST).read_bytes()))
    except (OSError, ValueError) as error:  # UserError is a ValueError, too
        raise UserError(
            f"'{folder / MANIFEST}' cannot be read ({one_line(error)}); delete the folder", code="damaged-graph"
        ) from error


def _difference(stored: GraphSettings, wanted: GraphSettings) -> str:
    old, new = asdict(stored), asdict(wanted)
    return ", ".join(f"{key} is {old[key]!r} there and {new[key]!r} here" for key in old if old[key] != new[key])
