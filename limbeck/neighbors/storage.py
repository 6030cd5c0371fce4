"""A neighbor graph in a folder: one resumable array of neighbors and cosines, with the settings that it depends on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.resumable_array import ResumableArray, read_array_manifest
from limbeck.neighbors.ivf import Recall

ARRAY, MANIFEST, RECALL = "graph.npy", "graph.json", "recall.json"
PAIR = np.dtype([("neighbor", "<i4"), ("cosine", "<f4")])
SearchMethod = Literal["exact", "ivf"]


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Everything that determines a graph."""

    version: int = 2
    features: str
    """Digest of the features, given by the caller."""
    indices: str
    """Digest of the rows that take part."""
    images: int
    dim: int
    k: int
    max_similarity: float | None
    search: SearchMethod


class GraphStorage:
    """The neighbors and cosines of a graph, [n K] int32 and float32, in `folder`, written block by block."""

    def __init__(self, folder: Path, settings: GraphSettings) -> None:
        stored = read_settings(folder)
        if stored is not None and stored != settings:
            raise UserError(
                f"'{folder}' holds another graph ({_difference(stored, settings)}); choose another folder or delete it",
                code="other-graph",
            )
        self.folder, self._settings, self._recall = folder, settings, folder / RECALL
        self._array = ResumableArray(folder / ARRAY, (settings.k,), PAIR, to_json(settings))

    @property
    def done(self) -> int:
        """Rows that are stored."""
        return self._array.rows

    def write(self, neighbors: NDArray[np.int32], cosines: NDArray[np.float32]) -> None:
        """Append rows [b K] to both arrays and wait until they are on the disk."""
        block = np.empty(neighbors.shape, PAIR)
        block["neighbor"], block["cosine"] = neighbors, cosines
        self._array.append(block)
        self._array.commit()

    def write_recall(self, found: Recall) -> None:
        """Record what an approximate search finds; rows that were found by another one are searched again."""
        if self.read_recall() != found.share:
            self._array.truncate(0)
        write_json(self._recall, found._asdict())

    def read_recall(self) -> float | None:
        """Return the share of the neighbors that the search finds; None where it was not measured."""
        found = read_json(self._recall) if self._recall.is_file() else {}
        share = found.get("share") if isinstance(found, dict) else None
        return share if isinstance(share, float) else None

    def read(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return both arrays of a finished graph.

        Raises:
            UserError: the file is damaged.
        """
        pairs = self._array.read()
        return np.ascontiguousarray(pairs["neighbor"]), np.ascontiguousarray(pairs["cosine"])


def read_settings(folder: Path) -> GraphSettings | None:
    """Return the settings of the graph in `folder`, finished or not; None where the folder is missing or empty.

    Raises:
        UserError: the folder holds something else.
    """
    if (stored := read_array_manifest(folder / MANIFEST)) is not None:
        return from_json(GraphSettings, stored["settings"], str(folder / MANIFEST))
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise UserError(
            f"'{folder}' is not empty and holds no neighbor graph of this version; choose another folder or delete it",
            code="not-a-graph",
        )
    return None


def _difference(stored: GraphSettings, wanted: GraphSettings) -> str:
    old: dict[str, Any] = asdict(stored)
    new: dict[str, Any] = asdict(wanted)
    return ", ".join(f"{key} is {old[key]!r} there and {new[key]!r} here" for key in old if old[key] != new[key])
