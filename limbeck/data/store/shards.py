"""Build a store of encoded images shard by shard: here, or by the workers of a runner.

A shard is `SHARD` consecutive samples of the source, used or not. `write_shard` makes two files of it, which appear
whole and are the same whoever writes them: `images-00012.bin` with the encoded images in the folder that becomes the
store, and then `images-00012.jsonl` beside it, with what that file holds and a line per sample. When all shards are
there, the index, the manifest and the table of skipped samples are made of these lines.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from limbeck.core.config import Json, from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.runners.run import Advance
from limbeck.data.decoded_sample import DecodedSample, decode_samples, mark_duplicate, quiet_pillow
from limbeck.data.first_paths import FirstPaths
from limbeck.data.sources.base import ImageSource, Sample
from limbeck.data.sources.open import open_source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.encoded import codec_of
from limbeck.data.store.layout import VERSION, Keep, Shard, shard_name
from limbeck.data.store.replace import NEW
from limbeck.data.store.tables import Place

SHARD = 2048  # samples: 45 MB of JPEGs of 256 pixels, and what a killed worker does again


@dataclass(frozen=True, kw_only=True)
class ShardSpec:
    """Everything that the files of a shard are a function of, and where they are written."""

    source: str | tuple[str, ...]
    exclude: tuple[str, ...]
    only: tuple[str, ...]
    max_images: int | None
    fingerprint: str | None
    size: int
    keep: Keep
    quality: int | None
    leave_out: tuple[str, ...]
    samples: int
    """Of a shard."""
    folder: str
    """The hidden folder in which the store is built."""
    version: int = VERSION


class SampleCursor:
    """The samples of a source from any number on; going forward does not start anew."""

    def __init__(self, source: ImageSource) -> None:
        self.source, self._next, self._last = source, 0, ""
        self._samples = source.samples()

    def take(self, start: int, count: int) -> tuple[str, Iterator[Sample]]:
        """Return the path of the sample before `start`, and `count` samples from there; read them to their end."""
        if start < self._next:
            self._next, self._last, self._samples = 0, "", self.source.samples()
        for _ in self._advance(start - self._next):
            pass
        return self._last, self._advance(count)

    def _advance(self, count: int) -> Iterator[Sample]:
        for sample in islice(self._samples, count):
            self._next, self._last = self._next + 1, sample.path
            yield sample


def write_shard(spec: Json, shard: int) -> None:
    """Write the files of a shard, as a worker that has nothing but the specification and a number.

    Raises:
        UserError: the source is another one here than where the command was given.
    """
    how = from_json(ShardSpec, spec, "the order of a shard")
    cursor = _open_cursor(json.dumps([how.source, how.exclude, how.only, how.max_images]))
    if cursor.source.fingerprint != how.fingerprint:
        raise UserError(
            f"the source '{cursor.source.name}' is another one here than where the command was given, or has changed "
            "since: give all machines the same files, then repeat the command",
            code="source-differs",
        )
    with quiet_pillow():
        ShardBuild(how, cursor, workers=1).write(shard)


@lru_cache(maxsize=1)
def _open_cursor(words: str) -> SampleCursor:
    source, *selected = json.loads(words)
    return SampleCursor(open_source(source, Selection.by(*selected)))


class ShardBuild:
    """The shards of one store, in its hidden folder."""

    def __init__(self, spec: ShardSpec, cursor: SampleCursor, workers: int | None) -> None:
        self.spec, self._cursor, self._workers = spec, cursor, workers
        self._partial = Path(spec.folder)
        self._store = self._partial / NEW

    def size(self, shard: int) -> int:
        """Return the number of samples of a shard."""
        return min(self.spec.samples, (self._cursor.source.count or 0) - shard * self.spec.samples)

    def missing(self) -> list[int]:
        """Return the shards of which the files are not there, or not whole."""
        return [shard for shard in range(self.count) if self.described(shard) is None]

    @property
    def count(self) -> int:
        """Number of shards."""
        return -(-(self._cursor.source.count or 0) // self.spec.samples)

    def write(self, shard: int, advance: Advance = lambda count: None) -> None:
        """Decode and encode the samples of a shard, and write its files; call `advance` with those that are done."""
        previous, samples = self._cursor.take(shard * self.spec.samples, self.size(shard))
        codec = codec_of(self.spec.keep, self.spec.quality)
        chunks = decode_samples(samples, self.spec.size, self._workers, previous=previous, encode=codec.encode)
        lines, written, digest = list[str](), 0, blake2b(digest_size=16)
        with atomic_write(self._store / shard_name(shard)) as unfinished, unfinished.open("wb") as file:
            for chunk in chunks:
                for sample in chunk:
                    data = sample.encoded if sample.used(self.spec.leave_out) else b""
                    file.write(data)
                    digest.update(data)
                    lines.append(f"{len(data)} {sample.to_json()}")
                    written += len(data)
                advance(len(chunk))
        described = Shard(name=shard_name(shard), bytes=written, digest=digest.hexdigest())
        with atomic_write(self._lines(shard)) as unfinished:
            unfinished.write_text(f"{json.dumps(to_json(described))}\n{''.join(lines)}", encoding="utf-8")

    def described(self, shard: int) -> Shard | None:
        """Read the file of a shard; None where it is not there, or not what was written."""
        with suppress(OSError, ValueError), self._lines(shard).open("rb") as lines:
            found = from_json(Shard, json.loads(lines.readline()))
            if (self._store / found.name).stat().st_size == found.bytes:
                return found
        return None

    def samples(self) -> Iterator[tuple[DecodedSample, Place]]:
        """Yield all samples, without their pixels, with their places; duplicates are marked."""
        first_paths = FirstPaths()
        for shard in range(self.count):
            with self._lines(shard).open("rb") as lines:
                lines.readline()
                offset = 0
                for line in lines:
                    length, _, rest = line.partition(b" ")
                    sample = DecodedSample.from_json(rest)
                    assert sample, "a file that appeared whole"
                    yield mark_duplicate(sample, first_paths), Place(shard, offset, int(length))
                    offset += int(length)

    def _lines(self, shard: int) -> Path:
        return self._partial / shard_name(shard).replace(".bin", ".jsonl")
