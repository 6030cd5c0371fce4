"""A neighbor graph in a folder: one resumable array of neighbors and cosines, with the settings that it depends on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.resumable import ResumableArray, read_array_manifest

ARRAY, MANIFEST = "graph.npy", "graph.json"
PAIR = np.dtype([("neighbor", "<i4"), ("cosine", "<f4")])
SearchMethod = Literal["exact", "ivf"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a graph is a function of."""

    version: int = 2
    features: str
    """Digest of the features, given by the caller."""
    rows: str
    """Digest of the row numbers."""
    images: int
    dim: int
    k: int
    max_similarity: float | None
    search: SearchMethod


class GraphStorage:
    """The neighbors and cosines of a graph, [n K] int32 and float32, in `folder`, written block by block."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        stored = read_settings(folder)
        if stored is not None and stored != settings:
            raise UserError(
                f"'{folder}' holds another graph ({_difference(stored, settings)}): choose another folder",
                code="other-graph",
            )
        self._settings = settings
        self._array = ResumableArray(folder / ARRAY, (settings.k,), PAIR, to_json(settings))

    @property
    def done(self) -> int:
        """Rows that are stored."""
        return self._array.rows

    def write(self, neighbors: NDArray[np.int32], cosines: NDArray[np.float32]) -> None:
        """Add the next rows [b K] of both arrays and wait until they are on the disk."""
        block = np.empty(neighbors.shape, PAIR)
        block["neighbor"], block["cosine"] = neighbors, cosines
        self._array.append(block)
        self._array.commit()

    def read(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return both arrays of a finished graph; UserError where the file is damaged."""
        pairs = self._array.read()
        return np.ascontiguousarray(pairs["neighbor"]), np.ascontiguousarray(pairs["cosine"])


def read_settings(folder: Path) -> Settings | None:
    """Return the settings of the graph in `folder`, finished or not; None where there is no graph.

    Raises:
        UserError: the folder holds something else.
    """
    if (stored := read_array_manifest(folder / MANIFEST)) is not None:
        return from_json(Settings, stored["settings"], str(folder / MANIFEST))
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise UserError(f"'{folder}' exists and holds no neighbor graph: choose another folder", code="not-a-graph")
    return None


def _difference(stored: Settings, wanted: Settings) -> str:
    old: dict[str, Any] = asdict(stored)
    new: dict[str, Any] = asdict(wanted)
    return ", ".join(f"{key} is {old[key]!r} there and {new[key]!r} here" for key in old if old[key] != new[key])
