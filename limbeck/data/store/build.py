"""Build a store from the samples of a source."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from limbeck.core.errors import UserError
from limbeck.core.progress import progress_bar
from limbeck.core.text import plural
from limbeck.data.check.issues import OPTIONAL_ISSUES
from limbeck.data.check.stats import AcceptPolicy, ScanStats, describe_counts
from limbeck.data.decode import UndecodableError, original_size
from limbeck.data.decoded_sample import (
    DecodedSample,
    decode_sample,
    decode_samples,
    mark_duplicate,
    quiet_pillow,
    remember,
)
from limbeck.data.fingerprint import what_changed
from limbeck.data.first_paths import FirstPaths
from limbeck.data.sources.base import SAMPLE_SIZE, ImageSource, Sample
from limbeck.data.sources.labels import describe_labels
from limbeck.data.store.encoded_writer import EncodedStoreWriter, Encoding
from limbeck.data.store.layout import (
    SKIPPED,
    ContentDigest,
    Manifest,
    is_store,
    name_labels,
    read_manifest,
    read_source_files,
)
from limbeck.data.store.replace import check_replaceable
from limbeck.data.store.tables import Placed
from limbeck.data.store.writer import StoreWriter

logger = logging.getLogger(__name__)

LARGEST_SIZE = 4096  # of a stored image: a side that a GPU can still train on, and of which threads can hold several


def write_store(
    source: ImageSource,
    out: Path,
    size: int,
    workers: int | None,
    policy: AcceptPolicy,
    encoding: Encoding | None = None,
) -> None:
    """Decode all samples into a store folder at `out` and log, in one line, what became of them.

    Rows have the order of the source, whoever works on it. An interrupted build of the same source is continued.

    Args:
        source: the images.
        out: the folder.
        size: side of the stored images.
        workers: decoding threads; None: one per core.
        policy: which images are used.
        encoding: how images are encoded, and who does it; None: the pixels are stored.

    Raises:
        UserError: no image can be used, more are unreadable than `policy` accepts, or `out` is something else than a
            store; then no store appears.
    """
    check_replaceable(out)
    _check_outside(out, source)
    report_changes(out, source)
    stats = ScanStats(policy)
    with quiet_pillow():
        if encoding:
            _write_encoded(source, out, size, workers, stats, encoding)
        else:
            _write_raw(source, out, size, workers, stats)
    logger.info(build_summary(stats, out, size, encoding))
    if stats.found["unreadable_part"]:
        logger.warning("'%s' was stored without %s", source.name, stats.describe_left_out()[0])


def _write_raw(source: ImageSource, out: Path, size: int, workers: int | None, stats: ScanStats) -> None:
    digest = ContentDigest()
    with StoreWriter(out, source, size, stats.policy.leave_out) as writer:
        for chunk in scan_samples(source, size, workers, stats, writer):
            add_to_digest(digest, chunk, stats.policy)
        add_left_out(stats, source)
        stats.raise_if_unacceptable(source.name)
        writer.finish(make_manifest(source, size, stats, digest))


def _write_encoded(
    source: ImageSource, out: Path, size: int, workers: int | None, stats: ScanStats, encoding: Encoding
) -> None:
    with EncodedStoreWriter(out, source, size, workers, stats.policy.leave_out, encoding) as writer:
        writer.write_shards()
        writer.write_tables(_counted(writer.samples(), stats))
        add_left_out(stats, source)
        stats.raise_if_unacceptable(source.name)
        digest = ContentDigest()
        digest.update_shards(writer.folder, writer.shards)
        manifest = make_manifest(source, size, stats, digest)
        writer.finish(replace(manifest, keep=encoding.keep, quality=encoding.codec.quality, shards=writer.shards))


def _counted(samples: Iterator[Placed], stats: ScanStats) -> Iterator[Placed]:
    for placed in samples:
        stats.add(placed[0])
        yield placed


def scan_samples(
    source: ImageSource, size: int, workers: int | None, stats: ScanStats, writer: StoreWriter | None
) -> Iterator[list[DecodedSample]]:
    """Decode and count all samples under a progress bar; yield them in chunks.

    A writer provides the samples that an interrupted build has done, and receives all others.
    """
    with progress_bar(source.count, "reading images", unit="images") as bar:
        for chunk in _resumed_and_decoded(source, size, workers, writer):
            for sample in chunk:
                stats.add(sample)
            bar.advance(len(chunk))
            yield chunk


def _resumed_and_decoded(
    source: ImageSource, size: int, workers: int | None, writer: StoreWriter | None
) -> Iterator[list[DecodedSample]]:
    first_paths = FirstPaths()
    done = 0
    for chunk in writer.resume() if writer else ():
        for sample in chunk:
            remember(sample, first_paths)
        done += len(chunk)
        yield chunk
    for decoded in decode_samples(islice(source.samples(), done, None), size, workers):
        chunk = [mark_duplicate(sample, first_paths) for sample in decoded]
        if writer:
            writer.append(chunk)
        yield chunk


def add_left_out(stats: ScanStats, source: ImageSource) -> None:
    """Count everything in a source that is no sample."""
    for path, issue in source.left_out:
        stats.add_left_out(path, issue)


def add_to_digest(digest: ContentDigest, samples: Sequence[DecodedSample], policy: AcceptPolicy) -> None:
    """Add the samples that go into a store to the digest of its content."""
    used = [sample for sample in samples if sample.used(policy.leave_out)]
    pixels = [sample.pixels for sample in used if sample.pixels is not None]
    if pixels:
        labels = [max(sample.label, -1) for sample in used]
        digest.update(np.stack(pixels), labels, [sample.width for sample in used], [sample.height for sample in used])


def make_manifest(source: ImageSource, size: int, stats: ScanStats, digest: ContentDigest) -> Manifest:
    """Return the manifest of a store of all samples that were counted; UserError for a label without a name."""
    names = name_labels(max(stats.classes, default=-1), source.label_names)
    return Manifest(
        images=stats.used,
        skipped=stats.skipped.total(),
        ignored=stats.ignored,
        size=size,
        label_names=tuple(names),
        labels=describe_labels(stats.labeled, stats.used, names, source.label_origin, source.label_problems),
        digest=digest.hexdigest(names),
        source=source.name,
        exclude=source.exclude,
        only=source.only,
        max_images=source.max_images,
        fingerprint=source.fingerprint,
        depth=source.depth,
    )


def check_arguments(out: Path | None, size: int | None, workers: int | None) -> None:
    """Raise UserError where the output would overwrite something else, or a number is out of range."""
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise UserError(
            f"a store cannot have images of {size} pixels: give a side from 1 to {LARGEST_SIZE:,}",
            code="bad-store-size",
        )
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers cannot decode images: give 1 or more", code="bad-workers")
    if out:
        check_replaceable(out)


def _check_outside(out: Path, source: ImageSource) -> None:
    """Raise UserError where a file of the source lies in the store that would be replaced."""
    for name in (source.name, *source.name.split()):
        if out.absolute() in Path(name).absolute().parents and Path(name).exists():
            raise UserError(
                f"'{name}' lies in the store '{out}', which would replace it: choose another path for the store",
                code="source-in-store",
            )


def report_changes(out: Path, source: ImageSource) -> None:
    """Log what changed where `out` is a store of the same source in an earlier state."""
    if not is_store(out):
        return
    with suppress(UserError):  # a damaged store is replaced like any other
        manifest = read_manifest(out)
        if manifest.source == source.name and manifest.fingerprint != source.fingerprint:
            changes = what_changed(read_source_files(out), source.files())
            logger.info("'%s' has changed since '%s' was built%s", source.name, out, changes and f": {changes}")


def choose_size(source: ImageSource) -> int:
    """Return the median short side of a sample of the images if that is at most 128, else 256."""
    for samples in (source.preview(), source.samples()):  # all of them only if the whole sample is broken
        if sides := list(islice(short_sides(samples), SAMPLE_SIZE)):
            typical = int(median(sides))
            return typical if typical <= 128 else 256
    stats = ScanStats(AcceptPolicy())
    for sample in islice(source.samples(), 1):
        stats.add(decode_sample(sample, size=1))
    raise stats.no_image_error(source.name)


def short_sides(samples: Iterable[Sample]) -> Iterator[int]:
    """Yield the shorter side in pixels of every image that can be opened."""
    for sample in samples:
        with suppress(UndecodableError):
            yield min(original_size(sample.content))


def build_summary(stats: ScanStats, out: Path, size: int, encoding: Encoding | None = None) -> str:
    """Return one line that accounts for every file."""
    how = f" as {encoding.codec.describe()}" if encoding else ""
    parts = [f"{plural(stats.used, 'image')} stored at {size} x {size}{how} in {out}"]
    if skipped := stats.describe_skipped():
        parts.append(f"{skipped}, listed in {out / SKIPPED}")
    parts += stats.describe_left_out()
    if counts := describe_counts({name: stats.found[name] for name in OPTIONAL_ISSUES if stats.action(name) == "used"}):
        parts.append(f"see `limbeck check` for {counts}")
    return "; ".join(parts)
