"""Write a store that appears whole, and continue a build that was killed.

While the store grows, a hidden folder `.NAME.partial` next to it holds

* `build.json`: what is being built, and how many images are complete (see `ResumableArray`);
* `journal.jsonl`: a line for every sample that is done, used or skipped, written after its pixels are on the disk;
* `store/`: the files of the store.

Whatever the moment of a kill, the lines of the journal whose pixels are there are a prefix of the source.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from limbeck.core.config import to_json
from limbeck.core.disk import make_folder, write_errors_as_user_error
from limbeck.core.errors import UserError
from limbeck.core.files import write_json
from limbeck.core.resumable_array import ResumableArray, read_array_manifest
from limbeck.core.text import plural
from limbeck.data.check.stats import TOO_MANY_BAD
from limbeck.data.decoded_sample import CHUNK, DecodedSample
from limbeck.data.fingerprint import what_changed
from limbeck.data.sources.base import ImageSource
from limbeck.data.store.layout import IMAGES, MANIFEST, VERSION, Manifest, read_source_files, write_source_files
from limbeck.data.store.replace import BUILD, JOURNAL, NEW, appear, partial_folder, remove_partial, restore
from limbeck.data.store.tables import write_tables

logger = logging.getLogger(__name__)

COMMIT_SECONDS = 2.0  # work that a kill may cost; a commit waits for the disk, about 10 ms


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """Everything that the content of a store depends on; a build continues an unfinished one with the same."""

    size: int
    source: str
    fingerprint: str | None
    leave_out: tuple[str, ...]
    version: int = VERSION


class StoreWriter:
    """Write samples, in the order of their source, into the store `out`, which appears when `finish` is called.

    A context manager; read `resume` to its end before the first `append`. Without `finish`, the samples that are done
    remain for the next build with the same settings, unless the source has no fingerprint (arrays in memory).
    """

    def __init__(self, out: Path, source: ImageSource, size: int, leave_out: Sequence[str]) -> None:
        self.out, self._source, self._leave_out = out, source, tuple(leave_out)
        self._settings = BuildSettings(
            size=size, source=source.name, fingerprint=source.fingerprint, leave_out=self._leave_out
        )
        self._partial = partial_folder(out)
        self._store = self._partial / NEW
        self._lines, self._finished, self._committed = list[str](), False, time.monotonic()

    def __enter__(self) -> Self:
        restore(self.out)
        if not self._can_resume():
            self._start()
        self._images = ResumableArray(
            self._store / IMAGES,
            (self._settings.size, self._settings.size, 3),
            np.uint8,
            to_json(self._settings),
            manifest=self._partial / BUILD,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if not self._finished:
            with suppress(OSError, UserError):  # of a full disk, which has been raised already
                self._commit()
        if self._finished or self._settings.fingerprint is None or not self._images.rows:
            remove_partial(self.out)
        elif getattr(error, "code", "") != TOO_MANY_BAD:  # which the same command would be refused for again
            done = plural(self._images.rows, "decoded image")
            logger.info("%s saved: the same command continues from there", done)

    def resume(self) -> Iterator[list[DecodedSample]]:
        """Yield the samples of an interrupted build in chunks, used ones with their pixels; discard incomplete ones."""
        self._discard_incomplete()
        pixels, row = self._images.read(), 0
        samples = self._journal_samples()
        while chunk := list(islice(samples, CHUNK)):
            for index, sample in enumerate(chunk):
                if sample.used(self._leave_out):
                    chunk[index] = sample._replace(pixels=pixels[row])
                    row += 1
            yield chunk

    def append(self, samples: Sequence[DecodedSample]) -> None:
        """Add the next samples of the source: the pixels of used ones, and a line for each."""
        used = [sample.pixels for sample in samples if sample.used(self._leave_out) and sample.pixels is not None]
        if used:
            self._images.append(np.stack(used))
        self._lines += [sample.to_json() for sample in samples]
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self._commit()

    def finish(self, manifest: Manifest) -> None:
        """Complete the files and let the folder appear under its name; an older store there is replaced."""
        self._commit()
        self._write_tables()
        write_json(self._store / MANIFEST, to_json(manifest))
        self._appear()

    def _appear(self) -> None:
        self._finished = True
        try:
            appear(self.out)
        except (OSError, UserError):
            self._finished = False
            raise

    def _can_resume(self) -> bool:
        if self._settings.fingerprint is None or not (self._store / IMAGES).is_file():
            return False
        with suppress(UserError):  # a damaged manifest: start over
            stored = read_array_manifest(self._partial / BUILD)
            return stored is not None and stored["settings"] == to_json(self._settings)
        return False

    def _start(self) -> None:
        if self._partial.is_dir():
            changes = what_changed(read_source_files(self._store), self._source.files()) or "other settings"
            logger.warning("an interrupted build of '%s' does not match (%s): starting over", self.out, changes)
        remove_partial(self.out)
        make_folder(self._store)
        (self._partial / JOURNAL).touch()
        write_source_files(self._store, self._source.files())

    def _journal_samples(self) -> Iterator[DecodedSample]:
        """Yield the samples of the journal, up to the first line that is incomplete or damaged."""
        with (self._partial / JOURNAL).open("rb") as journal:
            for line in journal:
                if (sample := DecodedSample.from_json(line)) is None:
                    return
                yield sample

    def _discard_incomplete(self) -> None:
        """Cut journal and images off behind the last sample of which both are complete."""
        used = end = 0
        with (self._partial / JOURNAL).open("rb") as journal:
            for line in journal:
                sample = DecodedSample.from_json(line)
                is_used = sample is not None and sample.used(self._leave_out)
                if sample is None or (is_used and used == self._images.rows):
                    break
                used, end = used + is_used, end + len(line)
        os.truncate(self._partial / JOURNAL, end)
        self._images.truncate(used)

    def _commit(self) -> None:
        """Sync the pixels, then the lines that say that they are there."""
        self._images.commit()
        with write_errors_as_user_error(self.out), (self._partial / JOURNAL).open("ab") as journal:
            journal.write("".join(self._lines).encode())
            journal.flush()
            os.fsync(journal.fileno())
        self._lines.clear()
        self._committed = time.monotonic()

    def _write_tables(self) -> None:
        samples = ((sample, None) for sample in self._journal_samples())
        write_tables(self._store, samples, self._leave_out, self._source.left_out, "raw")
