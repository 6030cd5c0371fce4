"""Images that are stored encoded: about a tenth of their pixels, decoded by threads when they are read.

An encoded image is always decoded to the same pixels, so that views are the same in every run and process.
"""

import io
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.core.disk import is_refusal, not_readable
from limbeck.core.errors import UserError, one_line
from limbeck.core.maps import MappedArray, PageCounter
from limbeck.data.store.layout import Keep, Pixels

SMALL = 64  # pixels; images up to this side are stored without loss
QUALITY = 90  # of lossy images
OPEN_SHARDS = 4096  # mapped at once: systems allow about 65,000 mappings
CHUNK = 16  # images that a thread decodes at a time, at least
MIN_CHUNK = 4


class Images(Protocol):
    """N images [N S S 3] of uint8 as `Store.images` has them: an array, a memory map, or `EncodedImages`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S, 3)."""

    @property
    def nbytes(self) -> int:
        """Size of all pixels, decoded."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Return one image [S S 3], or several [B S S 3] at a slice or an array of rows."""


@dataclass(frozen=True)
class Codec:
    """How images are encoded."""

    format: Literal["JPEG", "WEBP"]
    quality: int | None
    """None: without loss."""

    def describe(self) -> str:
        """Return `"JPEG of quality 90"` or the like."""
        return f"{self.format} {'without loss' if self.quality is None else f'of quality {self.quality}'}"

    def encode(self, pixels: Pixels) -> bytes:
        """Return an image [S S 3] in this format."""
        from PIL import Image

        file = io.BytesIO()
        options = {"lossless": True, "method": 3} if self.quality is None else {"quality": self.quality}
        Image.fromarray(pixels).save(file, self.format, **options)
        return file.getvalue()

    def decode(self, data: bytes, size: int) -> Pixels:
        """Return the pixels [S S 3] of an encoded image; OSError or ValueError where it is damaged."""
        from PIL import Image

        with Image.open(io.BytesIO(data), formats=(self.format,)) as image:
            if image.size != (size, size):
                raise ValueError(f"it has {' x '.join(map(str, image.size))} pixels")
            return np.asarray(image.convert("RGB"))


def codec_of(keep: Keep, quality: int | None) -> Codec:
    """Return the codec of a store that is not raw, by its manifest."""
    return Codec("JPEG" if keep == "jpeg" else "WEBP", quality)


def choose_codec(keep: Keep, size: int, quality: int | None) -> Codec:
    """Return the codec for images of `size` pixels: small ones are stored without loss, unless a quality is requested.

    Raises:
        UserError: JPEG was requested for small images, of which it loses much and saves little; a quality out of range.
    """
    if quality is not None and not 1 <= quality <= 100:
        raise UserError(f"the quality {quality} of encoded images is not between 1 and 100", code="bad-quality")
    if size > SMALL or quality is not None:
        return codec_of(keep, QUALITY if quality is None else quality)
    if keep == "jpeg":
        raise UserError(
            f"JPEG always loses something, and images of {size} pixels are stored without loss: take --keep webp or "
            f"raw, or say with --quality {QUALITY} how much may be lost",
            code="lossy-small-images",
        )
    return codec_of(keep, None)


class EncodedImages:
    """Images of shards, decoded whenever they are read; rows are indexed as those of an array [N S S 3].

    Args:
        shards: files with encoded images, back to back.
        places: shard, offset and number of bytes of every image, [N] each.
        size: S.
        codec: how they were encoded.
    """

    def __init__(self, shards: Sequence[Path], places: Sequence[NDArray[Any]], size: int, codec: Codec) -> None:
        self._shards, self._codec, self._size = shards, codec, size
        self._shard, self._offset, self._bytes = places
        self._open = lru_cache(OPEN_SHARDS)(_map_file)

    def __reduce__(self) -> tuple[type["EncodedImages"], tuple[Any, ...]]:
        """Let a process that gets these images map the same shards."""
        places = (self._shard, self._offset, self._bytes)
        return EncodedImages, (self._shards, places, self._size, self._codec)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S, 3)."""
        return (len(self), self._size, self._size, 3)

    @property
    def nbytes(self) -> int:
        """Size of all pixels, decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._offset)

    def __getitem__(self, rows: Any, /) -> Pixels:
        if isinstance(rows, int | np.integer):
            return self.read(np.array([range(len(self))[int(rows)]]))[0]
        return self.read(np.arange(len(self))[rows])

    def read(self, rows: NDArray[np.int64], out: Pixels | None = None) -> Pixels:
        """Return the images at `rows` [B], decoded into `out` [B S S 3] if it is given, by all threads.

        Raises:
            UserError: an image is damaged; the shard is named.
        """
        found = np.empty((len(rows), *self.shape[1:]), np.uint8) if out is None else out
        threads = decoding_threads()
        step = max(MIN_CHUNK, min(CHUNK, -(-len(rows) // threads)))
        parts = [slice(start, start + step) for start in range(0, len(rows), step)]
        if len(parts) == 1 or threads == 1:
            self._decode(rows, found)
        else:
            list(_pool(os.getpid()).map(lambda part: self._decode(rows[part], found[part]), parts))
        return found

    def _decode(self, rows: NDArray[np.int64], out: Pixels) -> None:
        for place, row in enumerate(rows):
            shard, start = self._shards[self._shard[row]], int(self._offset[row])
            try:
                mapped, pages = self._open(shard)
                data = mapped[start : start + int(self._bytes[row])]
                pages.note(len(data))
                out[place] = self._codec.decode(data, self._size)
            except (OSError, ValueError, SyntaxError) as error:  # Pillow raises the last of a broken header
                if is_refusal(error):
                    raise not_readable(Path(error.filename or shard), error) from error
                raise UserError(
                    f"the shard '{shard}' of the store is damaged (image {row} from byte {start:,}: "
                    f"{one_line(error)}): delete the store and build it again",
                    code="damaged-store",
                ) from error


def read_rows(images: Images, rows: NDArray[np.int64], out: Pixels) -> None:
    """Copy the images at `rows` [B] into `out` [B S S 3], without a second buffer."""
    if isinstance(images, EncodedImages):
        images.read(rows, out)
    else:
        np.take(np.asanyarray(images), rows, axis=0, out=out, mode="clip")  # "raise" would go through a second buffer
        if isinstance(images, MappedArray):
            images.note(out.nbytes)


@cache
def decoding_threads() -> int:
    """Return the threads that decode in this process: the cores, divided among the processes of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(decoding_threads(), thread_name_prefix="limbeck-decode")


def _map_file(path: Path) -> tuple[mmap.mmap, PageCounter]:
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return mapped, PageCounter(mapped)
