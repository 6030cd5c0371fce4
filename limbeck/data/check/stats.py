"""What was found in a source: counts, the first names of each kind, and the sentences about them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from limbeck.core.errors import UserError, did_you_mean
from limbeck.data.check.examine import Row
from limbeck.data.check.issues import ISSUE_TYPES, OPTIONAL_ISSUES, Issue, Name, refusal

ALLOWED = 0.05  # share of rows that may be bad: more is a mistake in the data rather than bad luck


@dataclass(frozen=True, kw_only=True)
class AcceptPolicy:
    """Which rows are used, and how many bad ones are accepted."""

    leave_out: tuple[str, ...] = ()
    """Kinds of findings (`issues.OPTIONAL_ISSUES`) whose rows are not used, though they could be."""
    allow_bad: float = ALLOWED
    """Share of the rows that may be unreadable."""

    def __post_init__(self) -> None:
        for kind in self.leave_out:
            if kind not in OPTIONAL_ISSUES:
                raise UserError(
                    f"'{kind}' cannot be left out{did_you_mean(kind, OPTIONAL_ISSUES)}: choose among {', '.join(OPTIONAL_ISSUES)}"
                )
        if not 0 <= self.allow_bad <= 1:
            raise UserError(f"{self.allow_bad} is no share of bad rows: allow one from 0 to 1, such as 0.2")

    def accepts(self, bad: int, rows: int) -> bool:
        """Whether so many bad rows are not too many."""
        return bad <= self.allow_bad * rows

    def judge(self, bad: int, rows: int, source: str, example: str = "") -> None:
        """UserError when more of the rows are bad than are allowed."""
        if not self.accepts(bad, rows):
            raise UserError(
                f"{bad:,} of the {rows:,} images of '{source}' cannot be read, more than the "
                f"{100 * self.allow_bad:.3g} % that is allowed{example}: `limbeck check` lists them, "
                f"--allow-bad {rounded_up(bad / rows):g} takes the others"
            )


@dataclass
class ScanStats:
    """Counts over the rows of a source."""

    policy: AcceptPolicy
    rows: int = 0
    used: int = 0
    refused: Counter[Name] = field(default_factory=Counter)
    """Rows that are not used, by the finding that decided."""
    found: Counter[Name] = field(default_factory=Counter)
    """Rows by finding; a row may have several."""
    first: dict[Name, tuple[str, Issue]] = field(default_factory=dict)
    """The first row of each kind."""
    classes: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Label -> rows used, and the path of the last one."""

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.rows += 1
        for finding in row.issues:
            self.note(row.path, finding)
        if refusing := refusal(row.issues, self.policy.leave_out):
            self.refused[refusing.kind] += 1
            return
        self.used += 1
        if row.label >= 0:
            self.classes[row.label] = (self.classes.get(row.label, (0, ""))[0] + 1, row.path)

    def note(self, path: str, finding: Issue) -> None:
        """Count a finding, also of what is no row."""
        self.found[finding.kind] += 1
        self.first.setdefault(finding.kind, (path, finding))

    def uses(self, kind: Name) -> bool:
        """Whether files with this finding are used."""
        return ISSUE_TYPES[kind].action == "used" and kind not in self.policy.leave_out

    def kinds(self) -> list[Name]:
        """The kinds of findings there are: first those whose files are not used, the bad ones before the others."""
        return sorted(self.found, key=lambda kind: (self.uses(kind), ISSUE_TYPES[kind].action == "ignored"))

    def acceptable(self) -> bool:
        """Whether there are images, and not too many bad ones among them."""
        return self.used > 0 and self.policy.accepts(self.bad, self.rows)

    @property
    def bad(self) -> int:
        """Rows that nobody could use."""
        return sum(count for kind, count in self.refused.items() if ISSUE_TYPES[kind].action == "bad")

    def lonely(self, names: Sequence[str]) -> list[tuple[str, Issue]]:
        """Classes with a single row, under its path, and classes with none, under their own name."""
        single = ((label, path) for label, (count, path) in sorted(self.classes.items()) if count == 1)
        one = [(path, Issue("alone", f"the only image of '{named(label, names)}'")) for label, path in single]
        missing = (name for label, name in enumerate(names) if label not in self.classes)
        return one + [(name, Issue("alone", "no image of this class can be used")) for name in missing]

    def why_not(self) -> str:
        """`"3 not used (2 empty, 1 truncated)"`, or nothing."""
        kinds = ", ".join(f"{count:,} {ISSUE_TYPES[kind].title}" for kind, count in self.refused.most_common())
        return f"{self.refused.total():,} not used ({kinds})" if kinds else ""

    def judge(self, source: str) -> None:
        """UserError when no row can be used, or more of them are bad than the policy allows."""
        if not self.used:
            raise self.no_image(source)
        self.policy.judge(self.bad, self.rows, source, self._example())

    def no_image(self, source: str) -> UserError:
        """The error of a source without one image."""
        return UserError(f"'{source}' holds no image that can be used{self._example() or ': there is no row'}")

    def _example(self) -> str:
        bad = [first for kind, first in self.first.items() if ISSUE_TYPES[kind].action == "bad"]
        return f" (the first: {bad[0][0]}: {bad[0][1].detail})" if bad else ""


def rounded_up(share: float) -> float:
    """To two digits, upwards."""
    return min(1.0, int(share * 100 + 1) / 100)


def named(label: int, names: Sequence[str]) -> str:
    """The name of a label."""
    return names[label] if label < len(names) else str(label)
