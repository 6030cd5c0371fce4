"""What a comparison of students with their teacher found."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One of the networks. Shares lie in [0, 1]; None is what was not measured, or a teacher's fidelity to itself."""

    name: str
    dim: int
    """Width of its features."""
    size: int
    """Side of the images that it sees, pixels."""
    parameters: int
    gflops: float
    """For one image; 1e9 operations, a multiplication and its addition count as two."""
    latency_ms: float | None = None
    """For one image: the median of repeated calls."""
    knn: float | None = None
    """Weighted k-NN accuracy, by cosine."""
    linear: float | None = None
    """Accuracy of the linear probe."""
    effective_rank: float | None = None
    """exp of the entropy of the normalised singular values of the test features."""
    agreement: float | None = None
    """Share of a test image's nearest test images that the teacher has too."""
    cka: float | None = None
    """Linear CKA with the teacher, on the test images."""
    cka_chance: float | None = None
    """Mean of `cka` over all ways of pairing the two sets of vectors."""
    cosine: float | None = None
    """Mean cosine with the teacher's vector of the same image; None where the widths differ."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Students beside their teacher, all on the same images."""

    teacher: Entrant
    students: tuple[Entrant, ...]
    """The one that was distilled first."""
    images: int
    """Test images, among which neighbours are looked up."""
    neighbours: int
    """Of each image."""

    @property
    def entrants(self) -> tuple[Entrant, ...]:
        """The first student, the teacher, the other students."""
        return (self.students[0], self.teacher, *self.students[1:])

    @property
    def chance(self) -> float:
        """Agreement of unrelated features."""
        return self.neighbours / (self.images - 1)

    def sentence(self) -> str:
        """What the first student keeps at what cost, and on what ground this is said."""
        first, *others = self.students
        kept = [percent(student.agreement or 0.0) for student in self.students]
        beside = "".join(f"{other.name} {share}, " for other, share in zip(others, kept[1:], strict=True))
        counted = self.teacher.gflops > 0  # not of a module that computes without torch
        cost = f"at {percent(first.gflops / self.teacher.gflops)} of its cost" if counted else "at a cost not known"
        return (
            f"the {first.name} keeps {kept[0]} of the teacher's neighbours ({beside}"
            f"chance {percent(self.chance)}) {cost}: "
            f"agreement@{self.neighbours} among {self.images:,} test images; GFLOPs per image"
        )

    def table(self) -> "Table":
        """The entrants as a table for people."""
        from limbeck.evaluate.table import comparison_table

        return comparison_table(self)


def percent(share: float) -> str:
    """In two digits: 0.912 -> "91 %", 0.0404 -> "4 %", 0.00502 -> "0.5 %"."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"
