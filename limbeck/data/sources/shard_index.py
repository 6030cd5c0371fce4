"""Index of a tar file, from its headers and label members: images that are samples, their labels, and the rest."""

import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.core.errors import one_line
from limbeck.data.address import Address
from limbeck.data.check.issues import Issue
from limbeck.data.fingerprint import file_state
from limbeck.data.sources.base import LeftOut
from limbeck.data.sources.labels import LABEL_NAMES, pick
from limbeck.data.sources.names import has_image_suffix, why_hidden, why_ignored

TAR_ERRORS = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error)
BLOCK = 1 << 20  # bytes read at a time
LABEL_SUFFIXES = tuple(f".{name}" for name in LABEL_NAMES)
KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.FIFOTYPE: "a FIFO"}


@dataclass
class ShardIndex:
    """The samples of one tar file, in their order, and what else there is."""

    paths: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Number of each sample among the images of the archive."""
    labels: list[Any] = field(default_factory=list)
    """As they were read; None where there is none."""
    label_suffixes: set[str] = field(default_factory=set)
    """Of the members that labels were read from."""
    late: int = 0
    """Labels that other images separate from theirs."""
    left_out: list[LeftOut] = field(default_factory=list)


class LabelMember:
    """The label of a key, and how many images came before it."""

    def __init__(self, path: str, suffix: str, value: Any, place: int) -> None:
        self.path, self.suffix, self.value, self.place, self.used = path, suffix, value, place, False


def index_shard(file: Path | Address) -> ShardIndex:
    """Read the headers and labels of a tar file, compressed or not; damage is listed with what is left out."""
    index, images, labels = ShardIndex(), list[str](), dict[str, LabelMember]()
    try:
        if file_state(file).bytes == 0:
            raise tarfile.ReadError("the file is empty")
        with file.open("rb") as opened, tarfile.open(str(file), "r:*", opened, ignore_zeros=True) as archive:
            for member in _members(archive, index.left_out):
                path = member_path(member)
                if not member.isfile():
                    index.left_out.append(LeftOut(path, _special(member, path)))
                elif not (reason := why_ignored(path)):
                    images.append(path)
                elif found := _label(archive, member, path, len(images)):
                    labels.setdefault(found[0], found[1])
                else:
                    index.left_out.append(LeftOut(path, Issue("not_an_image", reason)))
    except TAR_ERRORS as error:
        index.left_out.append(LeftOut(str(file), Issue("unreadable_part", one_line(error))))
    _match(index, images, labels)
    return index


def member_path(member: tarfile.TarInfo) -> str:
    """Return the path of a member without `./` and `/` at its start."""
    return os.path.normpath(member.name).lstrip("/")


def sample_key(path: str) -> str:
    """Return WebDataset's key: the path up to the first dot of the file name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, name.partition(".")[0] or name)


def _members(archive: tarfile.TarFile, left_out: list[LeftOut]) -> Iterator[tarfile.TarInfo]:
    """Yield all members but directories; list where the bytes between them are neither members nor zeros."""
    end = 0
    for member in archive:
        _check_gap(archive, end, member.offset, left_out)
        end = archive.offset  # of the next header, behind the content of this member
        if not member.isdir():
            yield member
    _check_gap(archive, end, None, left_out)


def _check_gap(archive: tarfile.TarFile, start: int, end: int | None, left_out: list[LeftOut]) -> None:
    file: Any = archive.fileobj
    here, place = file.tell(), start
    file.seek(start)
    while some := file.read(BLOCK if end is None else min(BLOCK, max(0, end - place))):
        place += len(some)
        if some.strip(b"\0"):
            detail = f"it is damaged or cut short behind byte {start:,}"
            left_out.append(LeftOut(str(archive.name), Issue("unreadable_part", detail)))
            break
    file.seek(here)


def _special(member: tarfile.TarInfo, path: str) -> Issue:
    kind = KINDS.get(member.type, "a device or another special member")
    target = f" to '{member.linkname}'" if member.linkname else ""
    hidden = why_hidden(path)
    return Issue("special_file" if has_image_suffix(path) and not hidden else "not_an_image", hidden or kind + target)


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, place: int) -> tuple[str, LabelMember] | None:
    """Return the key and the label of a member such as `key.cls`, `key.cls.txt` or `key.json`; None for another one."""
    stem, suffix = os.path.splitext(path.removesuffix(".txt"))
    if why_hidden(path) or suffix.lower() not in (*LABEL_SUFFIXES, ".json"):
        return None
    reader = archive.extractfile(member)
    value: Any = reader.read() if reader else b""
    value = _json_label(value) if suffix.lower() == ".json" else _number_or_text(value)
    return None if value is None else (stem, LabelMember(path, suffix.lower(), value, place))


def _number_or_text(data: bytes) -> Any:
    text = data.decode(errors="replace").strip()
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else text


def _json_label(data: bytes) -> Any:
    """Return the label in a JSON member: its value, or that of a key such as 'label'; None where there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        key = pick(map(str, value), LABEL_NAMES)
        return None if key is None else value[key]
    return value if isinstance(value, int | str) else None


def _match(index: ShardIndex, images: list[str], labels: dict[str, LabelMember]) -> None:
    """Choose the samples among the images, give them their labels, and list the rest.

    A dot in a name cuts a key only where `key.png` is there: then `key.mask.png` is a further image of that sample.
    """
    stems = {os.path.splitext(path)[0] for path in images}
    for place, path in enumerate(images):
        stem, key = os.path.splitext(path)[0], sample_key(path)
        if stem != key and key in stems:
            index.left_out.append(LeftOut(path, Issue("second_image", f"a further image of '{key}'")))
            continue
        label = labels.get(stem) or labels.get(key)
        index.paths.append(path)
        index.places.append(place)
        index.labels.append(label and label.value)
        if label:
            label.used = True
            index.label_suffixes.add(label.suffix)
            index.late += not 0 <= label.place - place <= 1
    unused = (label.path for label in labels.values() if not label.used)
    index.left_out += [LeftOut(path, Issue("not_an_image", "a label without an image")) for path in unused]
