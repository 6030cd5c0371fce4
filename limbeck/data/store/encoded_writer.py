"""Write a store of encoded images, which appears whole, and continue a build that was killed.

While the store grows, a hidden folder `.NAME.partial` next to it holds `build.json` (what is being built),
`journal.jsonl` (who did which shard, for people), and the files of the shards that are done (see `shards`).
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from limbeck.core.config import to_json
from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.runners.run import RunnerConfig, ShardWork, check_runner, run_shards
from limbeck.core.text import plural
from limbeck.data.fingerprint import what_changed
from limbeck.data.sources.base import ImageSource
from limbeck.data.store import shards
from limbeck.data.store.encoded import Codec, choose_codec
from limbeck.data.store.layout import MANIFEST, Keep, Manifest, Shard, read_source_files, write_source_files
from limbeck.data.store.replace import BUILD, JOURNAL, NEW, appear, partial_folder, remove_partial, restore
from limbeck.data.store.shards import SampleCursor, ShardBuild, ShardSpec
from limbeck.data.store.tables import Placed, write_tables

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding of the images, and the runner that does it."""

    keep: Keep
    codec: Codec
    source: Any
    """Source as the user gave it, which other processes open as well."""
    runner: RunnerConfig = field(default_factory=RunnerConfig)

    def check(self, source: ImageSource) -> None:
        """Raise UserError unless the workers of a runner can open the source, and its shards can be counted."""
        words = self.source if isinstance(self.source, list | tuple) else [self.source]
        if self.runner.runner and (source.fingerprint is None or not all(isinstance(w, str | Path) for w in words)):
            raise UserError(
                f"the images of '{source.name}' are in memory, and workers cannot open them: leave the runner out",
                code="images-in-memory",
            )
        if source.count is None:
            raise UserError(
                f"the number of images of '{source.name}' is not known: take --keep raw",
                code="unknown-image-count",
            )


def check_encoding(keep: Keep, quality: int | None, runner: RunnerConfig) -> None:
    """Raise UserError for settings of encoded images where pixels are stored, and for a runner that is not there."""
    if keep == "raw" and quality is not None:
        raise UserError(
            f"raw pixels have no quality {quality}: leave it out, or take --keep jpeg or webp",
            code="raw-no-quality",
        )
    if keep == "raw" and runner.runner:
        raise UserError(
            f"a raw store is one file that one process writes, not the runner '{runner.runner}': take --keep jpeg or "
            "webp, or leave the runner out",
            code="raw-no-shards",
        )
    check_runner(runner)


def choose_encoding(keep: Keep, size: int, quality: int | None, source: Any, runner: RunnerConfig) -> Encoding | None:
    """Return the codec of images of `size` pixels (see `choose_codec`), None where their pixels are stored."""
    if keep == "raw":
        return None
    return Encoding(keep=keep, codec=choose_codec(keep, size, quality), source=source, runner=runner)


class EncodedStoreWriter:
    """Write the samples of a source as encoded images into the store `out`, which appears when `finish` is called.

    A context manager. Without `finish`, the shards that are done remain for the next build of the same, unless the
    source has no fingerprint (arrays in memory).
    """

    def __init__(
        self, out: Path, source: ImageSource, size: int, workers: int | None, leave_out: tuple[str, ...], how: Encoding
    ) -> None:
        how.check(source)
        self.out, self._source, self._how = out, source, how
        self._partial, self.folder = partial_folder(out), partial_folder(out) / NEW
        given = how.source if isinstance(how.source, list | tuple) else str(how.source)
        self.spec = ShardSpec(
            source=tuple(map(str, given)) if isinstance(given, list | tuple) else given,
            exclude=source.exclude,
            only=source.only,
            max_images=source.max_images,
            fingerprint=source.fingerprint,
            size=size,
            keep=how.keep,
            quality=how.codec.quality,
            leave_out=leave_out,
            samples=shards.SHARD,
            folder=str(self._partial.absolute()),
        )
        self._build = ShardBuild(self.spec, SampleCursor(source), workers)
        self._finished = False

    def __enter__(self) -> Self:
        restore(self.out)
        if not self._can_resume():
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        done = self._build.count - len(self._build.missing()) if not self._finished else 0
        if not done or self._source.fingerprint is None:
            remove_partial(self.out)
        else:
            logger.info("%s saved: the same command continues from there", plural(done, "shard"))

    def write_shards(self) -> None:
        """Write those shards that are not there; UserError names the shard and the worker that failed."""
        work = ShardWork(
            task="limbeck.data.store.shards:write_shard",
            spec=to_json(self.spec),
            here=self._build.write,
            size=self._build.size,
            journal=self._partial / JOURNAL,
            description="encoding images",
        )
        run_shards(work, self._build.missing(), self._how.runner)

    def samples(self) -> Iterator[Placed]:
        """Yield all samples, without their pixels, in the order of the source."""
        return self._build.samples()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Return the contents of the shards' files, in their order."""
        found = [self._build.described(shard) for shard in range(self._build.count)]
        return tuple(shard for shard in found if shard)

    def write_tables(self, samples: Iterator[Placed]) -> None:
        """Write the index and the list of skipped samples; `samples` are those of `self.samples`."""
        write_tables(self.folder, samples, self.spec.leave_out, self._source.left_out, self.spec.keep)

    def finish(self, manifest: Manifest) -> None:
        """Let the folder appear under its name; an older store there is replaced."""
        write_json(self.folder / MANIFEST, to_json(manifest))
        appear(self.out)
        self._finished = True

    def _can_resume(self) -> bool:
        if self._source.fingerprint is None or not self.folder.is_dir():
            return False
        with suppress(UserError):  # a damaged file: start over
            return (self._partial / BUILD).is_file() and bool(read_json(self._partial / BUILD) == to_json(self.spec))
        return False

    def _start(self) -> None:
        if self._partial.is_dir():
            changes = what_changed(read_source_files(self.folder), self._source.files()) or "other settings"
            logger.warning("an interrupted build of '%s' does not match (%s): starting over", self.out, changes)
        remove_partial(self.out)
        make_folder(self.folder)
        write_source_files(self.folder, self._source.files())
        write_json(self._partial / BUILD, to_json(self.spec))
