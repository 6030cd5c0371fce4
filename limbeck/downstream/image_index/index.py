"""An index in a folder: unit vectors of images, their paths, and the encoder that made them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from limbeck.core.config import from_json, to_json
from limbeck.core.disk import check_writable, is_refusal, not_readable
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, replaced_folder, write_json
from limbeck.core.packages import require
from limbeck.core.text import plural
from limbeck.neighbors.ivf import build_lists
from limbeck.neighbors.search import ExactSearch, TopK
from limbeck.neighbors.vectors import BLOCK, UnitVectors

logger = logging.getLogger(__name__)

ABOUT, VECTORS, IMAGES, LISTS = "index.json", "vectors.npy", "images.parquet", "lists.faiss"
VERSION = 1
EXACT_ROWS = 500_000
"""Images up to which "auto" searches exactly."""
RECALL_QUERIES, RECALL_NEIGHBORS = 200, 10
CPU = torch.device("cpu")
SearchKind = Literal["auto", "exact", "ivf"]


@dataclass(frozen=True, kw_only=True)
class About:
    """Contents of index.json."""

    version: int = VERSION
    encoder: str
    """The network as it was named."""
    digest: str
    """Of its weights, its architecture and the size of its input."""
    depth: int
    dim: int
    store_size: int
    """Side of the stored images, pixels; a query is squeezed to it."""
    images: int
    search: Literal["exact", "ivf"]
    recall: float
    """Share of the 10 nearest images of 200 of its own images that a search finds; 1 where it is exact."""


class Rows(NamedTuple):
    """Images to add: row i of every field is one image."""

    vectors: NDArray[np.float32]  # [N D], of any length
    paths: list[str]
    labels: list[str | None]


class Hit(NamedTuple):
    """An image that a search found."""

    path: str
    label: str | None
    cosine: float


class ImageIndex:
    """An index that is open for searching.

    Raises:
        UserError: the folder holds no index, one of another version, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.about = folder, _read_about(folder)
        try:
            self.vectors: NDArray[np.float32] = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
            table = pq.read_table(folder / IMAGES)
        except (OSError, EOFError, ValueError, pa.ArrowException) as error:
            if is_refusal(error):
                raise not_readable(folder, error) from error
            raise _damaged(folder, str(error)) from error
        self.paths: list[str] = table["path"].to_pylist()
        self.labels: list[str | None] = table["label"].to_pylist()
        if not self.vectors.shape == (self.about.images, self.about.dim) or len(self.paths) != self.about.images:
            raise _damaged(folder, f"it should hold {plural(self.about.images, 'image')}")

    def search(self, queries: NDArray[np.float32], k: int) -> list[list[Hit]]:
        """Return the `k` images with the largest cosine to each of the vectors [Q D], or all if there are fewer."""
        base, asked = UnitVectors(self.vectors, None, CPU), UnitVectors(queries, None, CPU)
        k = min(k, len(self.paths))
        found = self._approximate(base, asked, k) if self.about.search == "ivf" else _exact(base, asked, k)
        return [
            [Hit(self.paths[row], self.labels[row], cosine) for row, cosine in zip(*pair, strict=True) if row >= 0]
            for pair in zip(found.positions.tolist(), found.scores.tolist(), strict=True)
        ]

    def _approximate(self, base: UnitVectors, queries: UnitVectors, k: int) -> TopK:
        require("faiss", "faiss", purpose="this index")
        import faiss

        return approximate(faiss.read_index(str(self.folder / LISTS)), base, queries, k)


def approximate(lists: Any, base: UnitVectors, queries: UnitVectors, k: int) -> TopK:
    """Return the best of the candidates in the lists nearest to each query, by their cosines in float64."""
    search, every = ExactSearch(base, k, queries=queries), torch.arange(len(queries))
    _, positions = lists.search(queries.unit(every).numpy(), search.num_candidates)
    candidates = torch.from_numpy(positions)
    return search.rank(every, candidates.clamp(min=0), candidates >= 0)


def _exact(base: UnitVectors, queries: UnitVectors, k: int) -> TopK:
    search = ExactSearch(base, k, queries=queries)
    blocks = [search.find(rows) for rows in torch.arange(len(queries)).split(BLOCK)]
    return TopK(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))


def write_index(folder: Path, old: ImageIndex | None, new: Rows, about: About, search: SearchKind) -> About:
    """Write the images of `old` and then those of `new` to `folder`, in the place of what `old` is.

    Raises:
        UserError: "ivf" is requested without FAISS, or the disk is full.
    """
    count = (old.about.images if old else 0) + len(new.paths)
    kind = _kind(search, count)
    with replaced_folder(folder) as unfinished:
        _write_vectors(unfinished / VECTORS, old, new, count)
        columns = {"path": (old.paths if old else []) + new.paths, "label": (old.labels if old else []) + new.labels}
        schema = pa.schema([("path", pa.string()), ("label", pa.string())])
        pq.write_table(pa.table(columns, schema), unfinished / IMAGES)
        recall = _write_lists(unfinished) if kind == "ivf" else 1.0
        about = replace(about, images=count, search=kind, recall=recall)
        write_json(unfinished / ABOUT, to_json(about))
    return about


def _kind(search: SearchKind, count: int) -> Literal["exact", "ivf"]:
    if search == "ivf" or (search == "auto" and count > EXACT_ROWS):
        require("faiss", "faiss", purpose=f"a search among {count:,} images with --search ivf")
        return "ivf"
    return "exact"


def _write_vectors(path: Path, old: ImageIndex | None, new: Rows, count: int) -> None:
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, new.vectors.shape[1])}
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(old.vectors if old else None, new.vectors):
            file.write(np.ascontiguousarray(block, "<f4").data)


def _blocks(*arrays: NDArray[np.float32] | None) -> Iterator[NDArray[np.float32]]:
    for array in arrays:
        for start in range(0, 0 if array is None else len(array), BLOCK):
            assert array is not None
            yield array[start : start + BLOCK]


def _write_lists(folder: Path) -> float:
    """Write the lists of FAISS, and return the recall of a search in them."""
    import faiss

    vectors = UnitVectors(np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False), None, CPU)
    lists = build_lists(vectors)
    faiss.write_index(lists, str(folder / LISTS))
    rows = np.linspace(0, len(vectors) - 1, min(RECALL_QUERIES, len(vectors))).astype(np.int64)
    queries, k = UnitVectors(vectors.features, rows, CPU), min(RECALL_NEIGHBORS, len(vectors))
    pairs = zip(_exact(vectors, queries, k).positions, approximate(lists, vectors, queries, k).positions, strict=True)
    return float(np.mean([np.isin(expected.numpy(), found.numpy()).mean() for expected, found in pairs]))


def check_place(folder: Path) -> None:
    """Raise UserError unless an index can be written to `folder`: an index, an empty folder, or nothing yet."""
    check_writable(folder.absolute().parent)
    if folder.exists() and not is_index(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' exists and is no index of Limbeck's: choose another place", code="not-ours")


def is_index(folder: Path) -> bool:
    """Return whether a folder holds an index."""
    return (folder / ABOUT).is_file()


def _read_about(folder: Path) -> About:
    if not is_index(folder):
        raise UserError(
            f"'{folder}' is no index: `limbeck index PHOTOS {folder} --with RUN` makes one", code="no-index"
        )
    found = read_json(folder / ABOUT, "build the index again")
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise UserError(f"'{folder}' is an index of another version: build it again", code="other-version")
    return from_json(About, found, str(folder / ABOUT))


def _damaged(folder: Path, why: str) -> UserError:
    return UserError(f"the index '{folder}' is damaged ({why}): delete it and build it again", code="damaged-index")
