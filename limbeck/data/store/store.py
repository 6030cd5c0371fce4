"""A store: N images of one size, mapped into memory or encoded in shards, with their labels and original sizes."""

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from limbeck.core.disk import is_refusal, not_readable
from limbeck.core.errors import UserError, one_line
from limbeck.core.maps import MappedArray, map_array
from limbeck.core.progress import progress
from limbeck.core.text import first_names, plural
from limbeck.data.store.encoded import EncodedImages, Images, codec_of
from limbeck.data.store.layout import (
    IMAGES,
    INDEX,
    MANIFEST,
    PLACE_SCHEMA,
    SHARD_NAME,
    SKIPPED,
    ContentDigest,
    DepthValues,
    Manifest,
    Pixels,
    Shard,
    index_schema,
    label_array,
    name_labels,
    read_manifest,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """N images, read-only, in memory or in a folder that `build_store` wrote."""

    images: Images  # [N S S 3], a memory map or encoded images when opened from a folder
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
    max_images: int | None = None
    """Number of samples that were drawn at random from its source; None: all of them."""

    depth: DepthValues | None = None
    """What the values meant that its images were made of, if they are depth."""
    companion: "Store | None" = None
    """A second picture of every row (`limbeck.data.store.companion`)."""

    def __len__(self) -> int:
        return len(self.images)

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[dict[str, Any]]]:
        """Let a process that gets this store map the same pixels instead of receiving a copy of them."""
        return _received, (vars(self) | {"images": _to_send(self.images)},)

    @property
    def size(self) -> int:
        """Return S, the side of the stored images in pixels."""
        return self.images.shape[1]

    def summary(self) -> str:
        """Return a sentence with the number of images, their size, and how many images of the source were skipped."""
        skipped = f", {self.skipped:,} skipped (see {self.path / SKIPPED})" if self.skipped and self.path else ""
        spread = "" if self.max_images is None else ", drawn at random from the source,"
        return f"{plural(len(self), 'image')} of {self.size} x {self.size}{spread} in {self.path or 'memory'}{skipped}"

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
        pixels = read_images(folder, manifest) if manifest.keep == "raw" else None
        index = read_index(folder, manifest)
        return cls(
            images=read_shards(folder, manifest, index) if pixels is None else pixels,
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
            depth=manifest.depth,
            max_images=manifest.max_images,
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
        """Read everything and compare with the digest of the manifest; UserError where they differ."""
        digest = ContentDigest()
        if self.path and isinstance(self.images, EncodedImages):
            verify_shards(self.path, digest)
        else:
            self._add_pixels(digest)
        if digest.hexdigest(self.label_names) != self.digest:
            raise damaged(self.path or Path("memory"), f"its content does not have the digest {self.digest}")

    def _add_pixels(self, digest: ContentDigest) -> None:
        for start in progress(range(0, len(self), 1024), "reading the store", unit="blocks"):
            rows = slice(start, start + 1024)
            digest.update(self.images[rows], self.labels[rows], self.widths[rows], self.heights[rows])


@dataclass(frozen=True)
class _MappedFile:
    """Location of the pixels of a memory map."""

    path: str
    offset: int  # bytes
    shape: tuple[int, ...]


def _to_send(images: Images) -> Images | _MappedFile:
    """Return the images in a form that another process can be sent; part of a map is copied."""
    if isinstance(images, np.memmap) and isinstance(images.base, mmap.mmap) and images.filename:
        return _MappedFile(str(images.filename), images.offset, images.shape)
    return images


def _received(fields: dict[str, Any]) -> Store:
    """Return the store of which another process sent these fields."""
    images = fields["images"]
    if isinstance(images, _MappedFile):
        images = MappedArray(images.path, np.uint8, "r", images.offset, images.shape)
    return Store(**fields | {"images": images})


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
        images = map_array(folder / IMAGES)
    except Exception as error:  # numpy evaluates the header as a literal, and a broken one raises a dozen kinds
        if is_refusal(error):
            raise not_readable(folder / IMAGES, error) from error
        raise damaged(folder, f"{IMAGES}: {one_line(error)}") from error
    if images.shape != expected or images.dtype != np.uint8 or not images.flags.c_contiguous:
        raise damaged(folder, f"{IMAGES} holds {images.dtype} {images.shape}, the manifest says uint8 {expected}")
    return images


def read_shards(folder: Path, manifest: Manifest, index: Mapping[str, NDArray[Any]]) -> EncodedImages:
    """Open the shards of a store; UserError if one is missing, cut short, listed twice, or contradicts the index."""
    names = [shard.name for shard in manifest.shards]
    for shard in manifest.shards:
        if not SHARD_NAME.fullmatch(shard.name) or names.count(shard.name) > 1:
            raise damaged(folder, f"{MANIFEST} lists the shard '{shard.name}' twice, or it is none")
        check_shard(folder, shard)
    places = [index[name] for name in PLACE_SCHEMA.names]
    number, offset, length = places
    sizes = np.array([shard.bytes for shard in manifest.shards], np.int64)
    inside = (number >= 0) & (number < len(sizes)) & (offset >= 0) & (length > 0)
    if not inside.all() or bool((offset + length > sizes[number]).any()):
        raise damaged(folder, f"{INDEX} has an image that is in no shard")
    codec = codec_of(manifest.keep, manifest.quality)
    return EncodedImages([folder / name for name in names], places, manifest.size, codec)


def check_shard(folder: Path, shard: Shard) -> None:
    """Raise UserError unless a shard is there in its whole length."""
    try:
        found = (folder / shard.name).stat().st_size
    except FileNotFoundError as error:
        raise damaged(folder, f"its shard '{shard.name}' is missing") from error
    except OSError as error:
        raise not_readable(folder / shard.name, error) from error
    if found != shard.bytes:
        raise damaged(folder, f"its shard '{shard.name}' has {found:,} bytes instead of {shard.bytes:,}")


def verify_shards(folder: Path, digest: ContentDigest) -> None:
    """Read every shard of a store and add it to a digest; UserError for one that has changed."""
    manifest = read_manifest(folder)
    for shard in progress(manifest.shards, "reading the store", unit="shards"):
        with (folder / shard.name).open("rb") as file:
            if file_digest(file, lambda: blake2b(digest_size=16)).hexdigest() != shard.digest:
                raise damaged(folder, f"its shard '{shard.name}' has changed since it was built")
    digest.update_shards(folder, manifest.shards)


def read_paths(store: Store) -> list[str]:
    """Return the path of every image as its source has it; of images in memory their numbers."""
    if store.path is None:
        return [str(row) for row in range(len(store))]
    paths: list[str] = pq.read_table(store.path / INDEX, columns=["path"], partitioning=None)["path"].to_pylist()
    return paths


def read_index(folder: Path, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """Return the columns of the index; UserError where they do not fit the manifest."""
    try:
        schema = index_schema(manifest.keep)
        columns = [name for name in schema.names if name not in ("row", "path")]
        table = pq.read_table(folder / INDEX, columns=columns, partitioning=None)
    except (OSError, ValueError, pa.ArrowException) as error:
        if is_refusal(error):
            raise not_readable(folder / INDEX, error) from error
        raise damaged(folder, f"{INDEX}: {one_line(error)}") from error
    if len(table) != manifest.images:
        raise damaged(folder, f"{INDEX} has {plural(len(table), 'row')}, the manifest says {manifest.images}")
    if table.column_names != columns or table.schema.types != [schema.field(name).type for name in columns]:
        raise damaged(folder, f"{INDEX} has columns of {', '.join(map(str, table.schema.types))}")
    index = {name: table[name].to_numpy() for name in table.column_names}
    lowest = {name: min(index[name].min(initial=1), 1) for name in ("label", "width", "height")}
    in_range = lowest["label"] >= -1 and index["label"].max(initial=-1) < len(manifest.label_names)
    if any(table[name].null_count for name in index) or lowest["width"] < 1 or lowest["height"] < 1 or not in_range:
        raise damaged(folder, f"{INDEX} has a label without a name, or an image without pixels")
    return index
