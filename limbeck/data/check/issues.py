"""Types of issues of a file, in the order of harm: the action taken, and what to do about it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

ALLOW_BAD = 0.05  # share of images that may be unreadable: more is a mistake in the data rather than bad luck
IssueName = Literal[
    "unreadable_part",
    "empty",
    "truncated",
    "unreadable",
    "too_many_pixels",
    "special_file",
    "no_extension",
    "second_image",
    "duplicate",
    "singleton_class",
    "root_image",
    "constant",
    "dark",
    "mask",
    "elongated",
    "tiny",
    "unusual_mode",
    "exif_rotated",
    "animated",
    "wrong_extension",
    "excluded",
    "not_an_image",
]
OptionalIssue = Literal[
    "duplicate",
    "root_image",
    "constant",
    "dark",
    "mask",
    "elongated",
    "tiny",
    "unusual_mode",
    "exif_rotated",
    "animated",
    "wrong_extension",
]
"""Issues whose images are used unless the user leaves them out."""
Action = Literal["used", "skipped", "ignored"]
"""What becomes of a file: its image goes into the store; it should have been an image, but is left out and listed in
skipped.csv; it is not taken for an image."""


class Issue(NamedTuple):
    """A remark about one file."""

    name: IssueName
    detail: str


@dataclass(frozen=True)
class IssueType:
    """A kind of issue.

    Attributes:
        title: what reports call it.
        action: what becomes of the file, unless the user leaves it out.
        advice: what the user can do.
    """

    title: str
    action: Action
    advice: str


ISSUE_TYPES: dict[IssueName, IssueType] = {
    "unreadable_part": IssueType(
        "folder or archive that cannot be read",
        "skipped",
        "change the permissions, or copy it again: nobody knows what is in it",
    ),
    "empty": IssueType("empty", "skipped", "copy the files again; interrupted downloads and full disks cause this"),
    "truncated": IssueType("truncated", "skipped", "copy the files again: the ends are missing"),
    "unreadable": IssueType(
        "unreadable",
        "skipped",
        "by the reason: change permissions, copy the files again, or convert them to PNG",
    ),
    "too_many_pixels": IssueType(
        "too many pixels", "skipped", "tile or shrink the images: decoding one takes gigabytes of memory"
    ),
    "special_file": IssueType(
        "link or device in an archive", "ignored", "pack the files themselves: `tar --dereference --hard-dereference`"
    ),
    "no_extension": IssueType(
        "image without an extension", "ignored", "rename the files: only files with an image's extension are read"
    ),
    "second_image": IssueType(
        "further image of a sample", "ignored", "give it a name without a dot before the extension, if it is a sample"
    ),
    "duplicate": IssueType("exact duplicate", "used", "`--leave-out duplicate` uses only the first of each"),
    "singleton_class": IssueType(
        "class with one image or none", "used", "add images or merge classes before you evaluate"
    ),
    "root_image": IssueType(
        "outside the class folders",
        "used",
        "move the images into a class: with images at the root, nothing is labeled",
    ),
    "constant": IssueType(
        "of one color", "used", "`--leave-out constant` skips them: there is nothing to learn from a plain surface"
    ),
    "dark": IssueType(
        "nearly black", "used", "look at the originals: an exposure, or pixels that span less than their type, is wrong"
    ),
    "mask": IssueType(
        "mask beside an image", "used", "`--exclude` with a pattern of their names, or `--leave-out mask`, skips them"
    ),
    "elongated": IssueType(
        "extreme aspect ratio", "used", "cut panoramas and strips into tiles: a store squeezes them to squares"
    ),
    "tiny": IssueType("tiny", "used", "`--leave-out tiny` skips them: there is little to learn from icons"),
    "unusual_mode": IssueType(
        "unusual color mode", "used", "look at the thumbnails: the conversion may not be what you want"
    ),
    "exif_rotated": IssueType(
        "rotated by EXIF", "used", "look at the thumbnails: a wrong EXIF tag rotates an upright image"
    ),
    "animated": IssueType("several frames", "used", "extract the frames, if more than the first one matters"),
    "wrong_extension": IssueType(
        "wrong extension", "used", "nothing here, since the content decides; other programs may fail"
    ),
    "excluded": IssueType("left out by name", "ignored", "nothing: --exclude and --only ask for it"),
    "not_an_image": IssueType("not an image", "ignored", "nothing, if the files are meant to be there"),
}
OPTIONAL_ISSUES: tuple[OptionalIssue, ...] = get_args(OptionalIssue)


def skip_reason(issues: Iterable[Issue], leave_out: Collection[str]) -> Issue | None:
    """Return the first issue because of which an image is not used; None where it is used."""
    return next((i for i in issues if ISSUE_TYPES[i.name].action != "used" or i.name in leave_out), None)
