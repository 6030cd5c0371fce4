"""Counts of what a scan of a source found, the sentences about them, and when there is too much wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.text import plural, printable
from limbeck.data.check.issues import ALLOW_BAD, ISSUE_TYPES, OPTIONAL_ISSUES, Action, Issue, IssueName, skip_reason
from limbeck.data.decoded_sample import DecodedSample

TOO_MANY_BAD = "too-many-bad-images"
"""Code of the error for a source with more unreadable images than are accepted."""


@dataclass(frozen=True, kw_only=True)
class AcceptPolicy:
    """Which images are used, and how many unreadable ones are accepted."""

    leave_out: tuple[str, ...] = ()
    """Issues (`issues.OPTIONAL_ISSUES`) whose images are skipped, though they could be used."""
    allow_bad: float = ALLOW_BAD
    """Share of the images that may be unreadable."""

    def __post_init__(self) -> None:
        for name in self.leave_out:
            if name not in OPTIONAL_ISSUES:
                raise UserError(
                    f"'{name}' cannot be left out{did_you_mean(name, OPTIONAL_ISSUES)}: "
                    f"choose from {', '.join(OPTIONAL_ISSUES)}",
                    code="unknown-issue",
                )
        if not 0 <= self.allow_bad <= 1:
            raise UserError(
                f"--allow-bad {self.allow_bad} is not a share: give a number from 0 to 1, such as 0.2",
                code="bad-share",
            )

    def accepts(self, bad: int, total: int) -> bool:
        """Return whether so many of the images may be unreadable."""
        return bad <= self.allow_bad * total

    def raise_if_too_many_bad(self, bad: int, total: int, source: str, example: str = "", listed: str = "") -> None:
        """Raise UserError where more of the images are unreadable than the policy accepts; a file may list them."""
        if not self.accepts(bad, total):
            way = f"they are in {listed}" if listed else "list them with `limbeck check`"
            raise UserError(
                f"{bad:,} of the {plural(total, 'image')} of '{source}' cannot be read, and at most "
                f"{100 * self.allow_bad:.3g} % may be{example}: {way}; accept them with --allow-bad "
                f"{round_up(bad / total):g}; a command without this flag takes a store (`limbeck store`)",
                code=TOO_MANY_BAD,
            )


@dataclass
class ScanStats:
    """Counts over the samples of a source."""

    policy: AcceptPolicy
    total: int = 0
    used: int = 0
    ignored: int = 0
    """Files that are not taken for images."""
    skipped: Counter[IssueName] = field(default_factory=Counter)
    """Samples that are skipped, by the issue that decides."""
    found: Counter[IssueName] = field(default_factory=Counter)
    """Files by issue; a file may have several."""
    first: dict[IssueName, tuple[str, Issue]] = field(default_factory=dict)
    """The first file with each issue."""
    classes: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Label -> number of used samples, and the path of the last one."""

    def add(self, sample: DecodedSample) -> None:
        """Count one more sample."""
        for issue in sample.issues:
            self.add_issue(sample.path, issue)
        reason = skip_reason(sample.issues, self.policy.leave_out)
        if reason and ISSUE_TYPES[reason.name].action == "ignored":
            self.ignored += 1
            return
        self.total += 1
        if reason:
            self.skipped[reason.name] += 1
            return
        self.used += 1
        if sample.label >= 0:
            self.classes[sample.label] = (self.classes.get(sample.label, (0, ""))[0] + 1, sample.path)

    def add_left_out(self, path: str, issue: Issue) -> None:
        """Count what is no sample of the source."""
        self.add_issue(path, issue)
        self.ignored += ISSUE_TYPES[issue.name].action == "ignored"

    def add_issue(self, path: str, issue: Issue) -> None:
        """Count an issue, also of a file that is not a sample."""
        self.found[issue.name] += 1
        self.first.setdefault(issue.name, (path, issue))

    def action(self, name: IssueName) -> Action:
        """Return the action taken on files with this issue."""
        return "skipped" if name in self.policy.leave_out else ISSUE_TYPES[name].action

    def by_harm(self) -> list[IssueName]:
        """Return the issues that were found, the most harmful first."""
        return [name for name in ISSUE_TYPES if self.found[name]]

    @property
    def bad(self) -> int:
        """Samples that cannot be used."""
        return sum(count for name, count in self.skipped.items() if ISSUE_TYPES[name].action == "skipped")

    def small_classes(self, label_names: Sequence[str]) -> list[tuple[str, Issue]]:
        """Return classes with one used image, under its path, and classes without any, under their names."""
        single = ((label, path) for label, (count, path) in sorted(self.classes.items()) if count == 1)
        one = [
            (path, Issue("singleton_class", f"the only image of '{label_name(label, label_names)}'"))
            for label, path in single
        ]
        missing = (name for label, name in enumerate(label_names) if label not in self.classes)
        return one + [(name, Issue("singleton_class", "no image of this class can be used")) for name in missing]

    def describe_skipped(self) -> str:
        """Return `"3 skipped (empty: 2, truncated: 1)"`, or an empty string."""
        counts = describe_counts({name: self.skipped[name] for name in ISSUE_TYPES})
        return f"{self.skipped.total():,} skipped ({counts})" if counts else ""

    def describe_left_out(self) -> list[str]:
        """Return a part of a sentence for what cannot be read at all, and one for what is ignored."""
        lost, parts = self.found["unreadable_part"], []
        if lost:
            where = printable(self.first["unreadable_part"][0])
            parts.append(f"{plural(lost, 'folder or archive', 'folders or archives')} cannot be read ({where})")
        if self.ignored:
            names: tuple[IssueName, ...] = ("special_file", "second_image", "excluded")
            aside = {name: self.found[name] for name in names}
            counts = describe_counts(aside)
            parts.append(f"{plural(self.ignored, 'other file')} ignored{counts and f' ({counts})'}")
        return parts

    @property
    def labeled(self) -> int:
        """Used samples that have a label."""
        return sum(count for count, _ in self.classes.values())

    def acceptable(self) -> bool:
        """Return whether there are images, and not too many unreadable ones among them."""
        return self.used > 0 and self.policy.accepts(self.bad, self.total)

    def raise_if_unacceptable(self, source: str, listed: str = "") -> None:
        """Raise UserError where no image can be used, or more are unreadable than the policy accepts.

        `listed` is the file that lists them, if there is one.
        """
        if not self.used:
            raise self.no_image_error(source)
        self.policy.raise_if_too_many_bad(self.bad, self.total, source, self._example(), listed)

    def no_image_error(self, source: str) -> UserError:
        """Return the error for a source without one image."""
        reason = self._example() or (": all images are left out" if self.total else ": it is empty")
        return UserError(f"'{source}' holds no image that can be used{reason}", code="no-usable-image")

    def _example(self) -> str:
        bad = [
            self.first[name] for name in self.by_harm() if self.skipped[name] and ISSUE_TYPES[name].action == "skipped"
        ]
        return f" (for example {printable(bad[0][0])}: {bad[0][1].detail})" if bad else ""


def describe_counts(counts: Mapping[IssueName, int]) -> str:
    """Return `"empty: 2, truncated: 1"` for counts above 0."""
    return ", ".join(f"{ISSUE_TYPES[name].title}: {count:,}" for name, count in counts.items() if count)


def round_up(share: float) -> float:
    """Round up to two digits."""
    return min(1.0, int(share * 100 + 1) / 100)


def label_name(label: int, names: Sequence[str]) -> str:
    """Return the name of a label, or its number."""
    return names[label] if label < len(names) else str(label)
