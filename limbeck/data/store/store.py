"""A store: N images of one size in one memory map, with their labels and original sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from limbeck.core.disk import is_refusal, not_readable
from limbeck.core.errors import UserError, one_line
from limbeck.core.progress import progress
from limbeck.core.text import first_names, plural
from limbeck.data.store.layout import (
    IMAGES,
    INDEX,
    INDEX_SCHEMA,
    SKIPPED,
    ContentDigest,
    Manifest,
    Pixels,
    label_array,
    name_labels,
    read_manifest,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """N images, read-only, in memory or in a folder that `build_store` wrote."""

    images: Pixels  # [N S S 3], a memory map when opened from a folder
    labels: NDArray[np.int64]  # [N], -1 where there is none
    widths: NDArray[np.int32]  # [N], pixels of the upright original
    heights: NDArray[np.int32]
    label_names: list[str]
    digest: str  # of everything above
    label_note: str = ""  # where the labels are from
    skipped: int = 0
    path: Path | None = None
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    """Patterns by which images of its source were left out."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Return S, the side of the stored images in pixels."""
        return self.images.shape[1]

    def summary(self) -> str:
        """Return a sentence with the number of images, their size, and how many images of the source were skipped."""
        skipped = f", {self.skipped:,} skipped (see {self.path / SKIPPED})" if self.skipped and self.path else ""
        return f"{plural(len(self), 'image')} of {self.size} x {self.size} in {self.path or 'memory'}{skipped}"

    def describe_labels(self) -> str:
        """Return a sentence on which labels there are and where they come from, or why there are none."""
        if self.label_note:
            return self.label_note
        names = f"{plural(len(self.label_names), 'class', 'classes')} ({first_names(self.label_names)})"
        return f"labels: {names if self.label_names else 'none'}"

    @property
    def labeled(self) -> bool:
        """Return whether every image has a label."""
        return len(self) > 0 and bool(self.labels.min() >= 0)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a store folder; UserError if it is not a store, has another version, or contradicts its manifest."""
        folder = Path(path)
        manifest = read_manifest(folder)
        images, index = read_images(folder, manifest), read_index(folder, manifest)
        return cls(
            images=images,
            labels=index["label"],
            widths=index["width"],
            heights=index["height"],
            label_names=list(manifest.label_names),
            digest=manifest.digest,
            label_note=manifest.labels,
            skipped=manifest.skipped,
            path=folder,
            exclude=manifest.exclude,
            only=manifest.only,
        )

    @classmethod
    def from_arrays(
        cls, images: Pixels, labels: ArrayLike | None = None, label_names: Sequence[str] | None = None
    ) -> Self:
        """Return a store in memory, of uint8 images [N H W] (gray) or [N H W C] with C = 1, 3 or 4.

        Images that are not square are resized to their short side. Without names, labels are named '0', '1' ...
        """
        check_images(images)
        count, height, width = images.shape[:3]
        if height == width and images.shape[3:] == (3,):
            pixels = images
        else:
            from limbeck.data.decode import decode  # here, because reading a store needs no decoder

            pixels = np.stack([decode(image, min(height, width)).pixels for image in images])
        rows = label_array(np.full(count, -1) if labels is None else np.asarray(labels))
        if rows.shape != (count,):
            raise UserError(
                f"{plural(count, 'image')} came with labels of shape {rows.shape}: give one label per image",
                code="bad-labels",
            )
        names = name_labels(int(rows.max()), label_names or [])
        widths, heights = np.full(count, width, np.int32), np.full(count, height, np.int32)
        digest = ContentDigest()
        digest.update(pixels, rows, widths, heights)
        return cls(
            images=pixels,
            labels=rows,
            widths=widths,
            heights=heights,
            label_names=names,
            digest=digest.hexdigest(names),
        )

    def verify(self) -> None:
        """Read every pixel and compare with the digest of the manifest; UserError where they differ."""
        digest = ContentDigest()
        for start in progress(range(0, len(self), 1024), "reading the store", unit="blocks"):
            rows = slice(start, start + 1024)
            digest.update(self.images[rows], self.labels[rows], self.widths[rows], self.heights[rows])
        if digest.hexdigest(self.label_names) != self.digest:
            raise damaged(self.path or Path("memory"), f"its content does not have the digest {self.digest}")


def check_images(images: Pixels) -> None:
    """Raise UserError unless images are uint8 [N H W] or [N H W C], with at least one of them."""
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3, 4))
    if images.dtype != np.uint8 or not shaped or images.size == 0:
        raise UserError(
            f"images are {images.dtype} of shape {images.shape}: "
            "uint8 [N H W] or [N H W C] with 1, 3 or 4 channels are needed",
            code="bad-image-shape",
        )


def damaged(folder: Path, why: str) -> UserError:
    """Return the error for a store with files that contradict each other."""
    return UserError(f"the store '{folder}' is damaged ({why}): delete it and build it again", code="damaged-store")


def read_images(folder: Path, manifest: Manifest) -> Pixels:
    """Map the pixels of a store; UserError if they contradict the manifest."""
    expected = (manifest.images, manifest.size, manifest.size, 3)
    try:
        images = np.lib.format.open_memmap(folder / IMAGES, mode="r")
    except Exception as error:  # numpy evaluates the header as a literal, and a broken one raises a dozen kinds
        if is_refusal(error):
            raise not_readable(folder / IMAGES, error) from error
        raise damaged(folder, f"{IMAGES}: {one_line(error)}") from error
    if images.shape != expected or images.dtype != np.uint8 or not images.flags.c_contiguous:
        raise damaged(folder, f"{IMAGES} holds {images.dtype} {images.shape}, the manifest says uint8 {expected}")
    return images


def read_paths(store: Store) -> list[str]:
    """Return the path of every image as its source has it; of images in memory their numbers."""
    if store.path is None:
        return [str(row) for row in range(len(store))]
    paths: list[str] = pq.read_table(store.path / INDEX, columns=["path"], partitioning=None)["path"].to_pylist()
    return paths


def read_index(folder: Path, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """Return the columns of the index; UserError where they do not fit the manifest."""
    try:
        table = pq.read_table(folder / INDEX, columns=["label", "width", "height"], partitioning=None)
    except (OSError, ValueError, pa.ArrowException) as error:
        if is_refusal(error):
            raise not_readable(folder / INDEX, error) from error
        raise damaged(folder, f"{INDEX}: {one_line(error)}") from error
    if len(table) != manifest.images:
        raise damaged(folder, f"{INDEX} has {len(table)} rows, the manifest says {manifest.images}")
    if table.schema.types != [INDEX_SCHEMA.field(name).type for name in table.column_names]:
        raise damaged(folder, f"{INDEX} has columns of {', '.join(map(str, table.schema.types))}")
    columns = {name: table[name].to_numpy() for name in table.column_names}
    lowest = {name: min(column.min(initial=1), 1) for name, column in columns.items()}
    in_range = lowest["label"] >= -1 and columns["label"].max(initial=-1) < len(manifest.label_names)
    if any(table[name].null_count for name in columns) or lowest["width"] < 1 or lowest["height"] < 1 or not in_range:
        raise damaged(folder, f"{INDEX} has a label without a name, or an image without pixels")
    return columns
