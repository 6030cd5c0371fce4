"""What can be wrong, or merely odd, with a file; whether it is used all the same; and what to do about it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Name = Literal[
    "empty",
    "truncated",
    "bomb",
    "unreadable",
    "duplicate",
    "misnamed",
    "tiny",
    "animated",
    "mode",
    "turned",
    "stray",
    "alone",
    "nameless",
    "ignored",
]
Choice = Literal["duplicate", "misnamed", "tiny", "animated", "mode", "turned", "stray"]
"""Findings whose files are used unless the user leaves them out."""


class Issue(NamedTuple):
    """One remark about one file: its kind, and what was seen there."""

    kind: Name
    detail: str


@dataclass(frozen=True)
class Kind:
    """What a kind of finding is called, what becomes of the files, and what a person can do."""

    title: str
    action: Literal["bad", "ignored", "used"]
    advice: str


ISSUE_TYPES: dict[Name, Kind] = {
    "empty": Kind("empty", "bad", "copy the files again: an interrupted download or a full disk leaves such files"),
    "truncated": Kind("truncated", "bad", "copy the files again: their ends are missing"),
    "bomb": Kind("too many pixels", "bad", "tile or shrink the files: decoding one would take gigabytes of memory"),
    "unreadable": Kind("unreadable", "bad", "delete the files, or convert them to PNG or JPEG"),
    "duplicate": Kind("exact duplicates", "used", "--leave-out duplicate keeps the first of each"),
    "misnamed": Kind("wrongly named", "used", "nothing: the content decides; other programs may stumble"),
    "tiny": Kind("tiny", "used", "--leave-out tiny: icons and placeholders teach little"),
    "animated": Kind("several frames", "used", "extract the frames, if more than the first one matters"),
    "mode": Kind("unusual pixels", "used", "look at the thumbnails: the conversion may not be what you want"),
    "turned": Kind("turned by EXIF", "used", "look at the thumbnails: a wrong EXIF flag turns an upright image"),
    "stray": Kind("beside the classes", "used", "move them into a class: with images at the root there are no labels"),
    "alone": Kind("classes with one image or none", "used", "add images or merge classes before you evaluate"),
    "nameless": Kind("images by content only", "ignored", "rename them: files without an image's suffix are not read"),
    "ignored": Kind("not images", "ignored", "nothing, if they are meant to be there"),
}
OPTIONAL_ISSUES: tuple[Choice, ...] = ("duplicate", "misnamed", "tiny", "animated", "mode", "turned", "stray")


def refusal(issues: Iterable[Issue], leave_out: Collection[str]) -> Issue | None:
    """The first finding because of which a row is not used, None where there is none."""
    return next((f for f in issues if ISSUE_TYPES[f.kind].action == "bad" or f.kind in leave_out), None)
