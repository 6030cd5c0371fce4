"""Images in tar files: WebDataset shards, with members `key.jpg`, `key.cls` ... for each sample, or plain archives.

The headers are read first, so that labels are found wherever they are, and everything that is no sample is listed. Read
with the standard library, because `datasets` cannot read shards in which samples have different members.
"""

import logging
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.data.address import Address
from limbeck.data.decode import Content, UndecodableError
from limbeck.data.fingerprint import file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, LeftOut, Sample, SourceType
from limbeck.data.sources.folder_classes import find_classes
from limbeck.data.sources.labels import Classes, classify
from limbeck.data.sources.names import is_image
from limbeck.data.sources.shard_index import TAR_ERRORS, ShardIndex, index_shard, member_path

logger = logging.getLogger(__name__)


def open_shards(files: Sequence[Path | Address], name: str) -> ImageSource:
    """Return the images of the shards in the order of the files, each with its label, if there are any.

    Raises:
        UserError: there is no image, and a shard is damaged.
    """
    shards = [index_shard(file) for file in files]
    left_out = [item for shard in shards for item in shard.left_out]
    count = sum(len(shard.paths) for shard in shards)
    _raise_if_damaged(left_out, count)
    _report_kinds(files, shards)
    classes, origin = _find_labels(shards)
    states = [file_state(file) for file in files]

    def samples() -> Iterator[Sample]:
        rows = chain.from_iterable(shard_images(file, shard) for file, shard in zip(files, shards, strict=True))
        return (Sample(path, data, int(label)) for (path, data), label in zip(rows, classes.numbers, strict=True))

    return ImageSource(
        name=name,
        samples=samples,
        count=count,
        paths=lambda: (path for shard in shards for path in shard.paths),
        label_names=classes.names,
        label_origin=origin,
        label_problems=classes.problems,
        left_out=left_out,
        fingerprint=state_fingerprint(states),
        files=lambda: iter(states),
    )


def _find_labels(shards: Sequence[ShardIndex]) -> tuple[Classes, str]:
    """Return the labels of members such as `key.cls`, else those of the folders in the archives, and their origin."""
    if suffixes := sorted({suffix for shard in shards for suffix in shard.label_suffixes}):
        late = sum(shard.late for shard in shards)
        apart = f" ({late:,} of them not next to their images)" if late else ""
        return classify(label for shard in shards for label in shard.labels), f"{', '.join(suffixes)} members{apart}"
    paths = [path for shard in shards for path in shard.paths]
    folders = find_classes(paths)
    found = classify((folders.label(path) for path in paths), folders.names)
    if folders.problem:
        found.problems[f"no member such as .cls holds one, and {folders.problem}"] = len(paths)
    return found, f"{folders.origin} of the archive"


def _report_kinds(files: Sequence[Path | Address], shards: Sequence[ShardIndex]) -> None:
    """Warn where the labels of one shard are words and those of another are numbers, which then are words as well."""
    first: dict[str, Path | Address] = {}
    for file, shard in zip(files, shards, strict=True):
        labels = [label for label in shard.labels if label is not None]
        kind = "words" if any(isinstance(label, str) for label in labels) else "numbers"
        if labels:
            first.setdefault(kind, file)
    if len(first) > 1:
        logger.warning(
            "the labels of '%s' are words and those of '%s' are numbers: each number is taken for a class of its own; "
            "write them in one way if they mean the same classes",
            first["words"],
            first["numbers"],
        )


def _raise_if_damaged(left_out: Sequence[LeftOut], count: int) -> None:
    for path, issue in left_out:
        if not count and issue.name == "unreadable_part":
            raise UserError(f"the shard '{path}' cannot be read ({issue.detail}): copy it again", code="bad-shard")


def shard_images(file: Path | Address, shard: ShardIndex) -> Iterator[tuple[str, Content]]:
    """Yield path and content of the samples of a shard, also of those that can no longer be read."""
    done = 0
    for data in _contents(file, shard.places):
        yield shard.paths[done], data
        done += 1
    for path in shard.paths[done:]:
        yield path, UndecodableError(f"the shard '{file}' is damaged or has changed")


def _contents(file: Path | Address, places: Sequence[int]) -> Iterator[bytes]:
    """Yield the images at these places among all images of a shard, up to the first damage."""
    wanted, place = set(places), 0
    with (
        suppress(*TAR_ERRORS),
        file.open("rb") as opened,
        tarfile.open(str(file), "r|*", opened, ignore_zeros=True) as archive,
    ):
        for member in archive:
            if member.isfile() and is_image(member_path(member)):
                if place in wanted and (reader := archive.extractfile(member)) is not None:
                    yield reader.read()
                place += 1


SOURCE = SourceType(
    description=".tar files (WebDataset)",
    suffixes=(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"),
    open_files=open_shards,
)
