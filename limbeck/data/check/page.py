"""The page of a check: every issue with its first files as thumbnails; one file, no scripts, no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from limbeck.core.html import render
from limbeck.data.check.issues import ISSUE_TYPES, Action, IssueName
from limbeck.data.check.stats import ScanStats

PICTURES = 24  # files shown of each issue
SIDE = 112  # pixels of a thumbnail's longer side


class Picture(NamedTuple):
    """A file with a remark."""

    path: str
    detail: str
    thumbnail: str = ""  # a data URI; "" where the file could not be decoded


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: one kind of remark, and the first pictures with it."""

    title: str
    count: int
    """Number of these files."""
    advice: str
    pictures: Sequence[Picture]
    action: Action | Literal[""] = ""
    """Action taken on these files."""

    @property
    def more(self) -> int:
        """Return the number of files that are not shown."""
        return self.count - len(self.pictures)


def check_page(sentence: str, note: str, sections: Sequence[Section]) -> str:
    """Return the whole page: `sentence` as its title, a `note` on where more is written, and the sections."""
    return render("check.html", sentence=sentence, note=note, sections=sections)


def issue_sections(stats: ScanStats, pictures: Mapping[IssueName, Sequence[Picture]]) -> list[Section]:
    """Return one section for each issue that was found, the most harmful first."""
    return [
        Section(
            title=ISSUE_TYPES[name].title,
            count=stats.found[name],
            advice=ISSUE_TYPES[name].advice,
            pictures=pictures.get(name, ()),
            action=stats.action(name),
        )
        for name in stats.by_harm()
    ]
