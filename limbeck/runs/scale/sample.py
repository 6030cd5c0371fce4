"""Measure the cost of an image on a few of them: bytes, and seconds of a core to store it and to read it."""

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.decoded_sample import decode_samples, quiet_pillow
from limbeck.data.sources.base import Sample
from limbeck.data.sources.open import Source, open_source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.build import choose_size
from limbeck.data.store.encoded import SMALL, Codec, EncodedImages, choose_codec
from limbeck.data.store.layout import is_store
from limbeck.data.store.store import Store
from limbeck.runs.scale.constants import Constants

IMAGES = 64  # that are decoded and encoded
ROUNDS = 3  # of reading them, the first of which warms up
WIDTH, HEIGHT, GRAIN = 500, 375, 6.0  # of photographs that are made, and how noisy they are


class Pixels(NamedTuple):
    """Stored images [n S S 3], and the constants that were measured on them."""

    images: NDArray[np.uint8]
    constants: Constants


def measure_images(source: Source | None, store_size: int | None, selection: Selection) -> Pixels:
    """Decode, encode and read a few images of a source, or photographs that are made of noise.

    Of a store, the images are read; how long building it took is measured on made photographs.

    Raises:
        UserError: as `open_source`; or no image can be read.
    """
    if isinstance(source, str | Path) and is_store(Path(source)):
        return _of_store(Store.open(source))
    samples, size = list(made_photographs(IMAGES)), store_size or 256
    if source is not None:
        found = open_source(source, selection)
        size = store_size or choose_size(found)
        samples = list(islice(found.preview(), IMAGES))
    return _measure(samples, size)


def made_photographs(count: int) -> Iterator[Sample]:
    """Yield JPEGs of noise at several scales, about as large as photographs of that size."""
    for number in range(count):
        draw = np.random.default_rng(number)
        total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for cells in (3, 12, 48):
            coarse = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            total += np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) / 3
        file = io.BytesIO()
        noisy = (total + draw.normal(0, GRAIN, total.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(file, "JPEG", quality=92)
        yield Sample(f"{number}.jpg", file.getvalue())


def _of_store(store: Store) -> Pixels:
    rows = np.linspace(0, len(store) - 1, min(IMAGES, len(store))).astype(np.int64)
    images = np.asarray(store.images[rows])
    made = _measure(list(made_photographs(IMAGES)), store.size).constants
    encoded = [codec_for(store.size).encode(image) for image in images]
    own = Constants(
        store_size=store.size,
        stored_bytes=float(np.mean([len(data) for data in encoded])),
        read_core_seconds=_read_seconds(encoded, store.size),
    )
    return Pixels(images, own.over(made))


def codec_for(size: int) -> Codec:
    """Return the codec of an encoded store of such images, as `limbeck store --keep` has it."""
    return choose_codec("webp" if size <= SMALL else "jpeg", size, None)


def _measure(samples: list[Sample], size: int) -> Pixels:
    codec, encoded = codec_for(size), list[bytes]()

    def build() -> None:
        with quiet_pillow():
            chunks = list(decode_samples(iter(samples), size, 1, encode=codec.encode))
        encoded[:] = [sample.encoded for chunk in chunks for sample in chunk if sample.encoded]

    seconds = core_seconds(build)
    if not encoded:
        raise UserError(
            f"none of the first {plural(len(samples), 'image')} can be read: `limbeck check` says why",
            code="no-usable-images",
        )
    sizes = [_size_of(sample) for sample in samples]
    found = Constants(
        store_size=size,
        source_bytes=float(np.mean(sizes)),
        stored_bytes=float(np.mean([len(data) for data in encoded])),
        build_core_seconds=seconds / len(samples),
        read_core_seconds=_read_seconds(encoded, size),
    )
    return Pixels(np.stack([codec.decode(data, size) for data in encoded]), found)


def _size_of(sample: Sample) -> int:
    content = sample.content
    if isinstance(content, Path):
        return content.stat().st_size
    return len(content) if isinstance(content, bytes) else int(np.asarray(content).nbytes)


def _read_seconds(encoded: list[bytes], size: int) -> float:
    """Return the seconds of a core for an image, read in batches as a loader does."""
    lengths = np.array([len(data) for data in encoded])
    offsets = np.cumsum(lengths) - lengths
    with tempfile.TemporaryDirectory(prefix="limbeck-") as folder:
        shard = Path(folder) / "images.bin"
        shard.write_bytes(b"".join(encoded))
        images = EncodedImages([shard], (np.zeros_like(lengths), offsets, lengths), size, codec_for(size))
        rows = np.random.default_rng(0).permutation(len(encoded))
        times = [core_seconds(lambda: images.read(rows)) for _ in range(ROUNDS)]
    return min(times[1:]) / len(encoded)


def core_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of this process for a piece of work."""
    began = time.process_time()
    work()
    return time.process_time() - began
