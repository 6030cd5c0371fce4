"""Images in WebDataset shards: tar files whose members `key.jpg`, `key.cls` ... make one sample per key.

Read as a stream with the standard library, because `datasets` refuses shards whose samples do not all have the same
members (a PNG among JPEGs, a sample without label).
"""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from limbeck.core.errors import UserError, one_line
from limbeck.data.decode import UndecodableError
from limbeck.data.fingerprint import file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, Sample, SourceType
from limbeck.data.sources.folder import is_image


class Member(NamedTuple):
    """A file of a shard."""

    name: str
    data: bytes


def open_shards(files: Sequence[Path], name: str) -> ImageSource:
    """Return one sample per key, in the order of the files: its first image, and the integer of its `.cls`, if any."""

    def samples() -> Iterator[Sample]:
        for file in files:
            for _, members in groupby(shard_members(file), key=lambda member: sample_key(member.name)):
                yield shard_sample(list(members))

    states = [file_state(file) for file in files]
    return ImageSource(
        name=name, samples=samples, count=None, fingerprint=state_fingerprint(states), files=lambda: iter(states)
    )


def shard_members(file: Path) -> Iterator[Member]:
    """Yield images and labels of one tar file, compressed or not; UserError where it is damaged."""
    try:
        with tarfile.open(file, "r|*") as archive:
            for member in archive:
                reader = archive.extractfile(member) if member.isfile() else None
                if reader is not None:
                    needed = is_image(Path(member.name).name) or member.name.endswith(".cls")
                    yield Member(member.name, reader.read() if needed else b"")
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"the shard '{file}' cannot be read ({one_line(error)}): copy it again", code="bad-shard"
        ) from error


def sample_key(name: str) -> str:
    """Return WebDataset's key: the path up to the first dot of the file name."""
    path = Path(name)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def shard_sample(members: Sequence[Member]) -> Sample:
    """Return the members of one key as a sample; without an image, one that cannot be decoded."""
    label = next((member.data for member in members if member.name.endswith(".cls")), b"").strip()
    number = int(label) if label.isdigit() else -1
    for member in members:
        if is_image(Path(member.name).name):
            return Sample(member.name, member.data, number)
    return Sample(members[0].name, UndecodableError("no image under this key"), number)


SOURCE = SourceType(description=".tar files (WebDataset)", suffixes=(".tar",), open_files=open_shards)
