"""What an evaluation, and a comparison of students with their teacher, found; and its file."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from limbeck.core.config import Json, from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.evaluate.config import EvaluateConfig

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One depth of the backbone. Accuracies are shares in [0, 1]; None is what was not measured or is not finite."""

    tap: int
    """Depth of the cut, from 1."""
    parameters: int
    """Of the network cut here."""
    gflops: float
    """Of the cut, for one image; 1e9 operations, a multiplication and its addition count as two."""
    latency_ms: float | None = None
    """Of the cut, for one image: the median of repeated calls."""
    knn: float | None = None
    """Weighted k-NN accuracy, by cosine."""
    five_nn: float | None = None
    """5-nn accuracy, unweighted, Euclidean."""
    linear: float | None = None
    """Accuracy of the linear probe."""
    random_knn: float | None = None
    """`knn` of the same network at its random initialisation."""
    random_linear: float | None = None
    """`linear` of the same network at its random initialisation."""
    random_five_nn: float | None = None
    """`five_nn` of the same network at its random initialisation."""
    random_effective_rank: float | None = None
    """`effective_rank` of the same network at its random initialisation."""
    positive: float | None = None
    """Mean squared distance of two views of an image, of L2-normalised features."""
    negative: float | None = None
    """Mean squared distance of two images, of L2-normalised features."""
    ratio: float | None = None
    """negative / positive."""
    raw_positive: float | None = None
    """`positive` of the features as they are."""
    raw_negative: float | None = None
    """`negative` of the features as they are."""
    raw_ratio: float | None = None
    """raw_negative / raw_positive."""
    uniformity: float | None = None
    """log mean exp(-2 d^2) over pairs of images, of L2-normalised features."""
    to_last: float | None = None
    """Mean squared distance to the other view in the last layer, L2-normalised; None where the widths differ."""
    effective_rank: float | None = None
    """exp of the entropy of the normalised singular values of the test features."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images that were used."""

    path: str | None
    images: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class ModelScores:
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

    teacher: ModelScores
    students: tuple[ModelScores, ...]
    """The one that was distilled first."""
    images: int
    """Test images, among which neighbours are looked up."""
    neighbours: int
    """Of each image."""

    @property
    def entrants(self) -> tuple[ModelScores, ...]:
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


@dataclass(frozen=True, kw_only=True)
class Result:
    """An evaluation: a row per tap, and all that is needed to know how the numbers came about."""

    rows: tuple[Row, ...]
    config: EvaluateConfig
    probe: str | None
    """The linear protocol that was used, "sgd" or "lbfgs"; None without a linear probe."""
    classes: tuple[str, ...]
    train: Data
    test: Data
    seconds: float
    """Wall time of the whole evaluation."""
    hardware: dict[str, str]
    command: str
    """The command line of the process."""
    comparison: Comparison | None = None
    """Of a distilled network with its teacher."""

    def save(self, path: Path) -> None:
        """Write JSON to `path`, whole or not at all."""
        data = {"version": VERSION} | _mapping(to_json(self))
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Result":
        """Read what `save` wrote; UserError if it is not that, or of another version."""
        try:
            data = _mapping(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is not a result of limbeck evaluate ({error})") from error
        version = data.pop("version", None)
        if version != VERSION:
            raise UserError(f"{path} has version {version!r}, and this limbeck reads {VERSION}: evaluate again")
        return from_json(cls, data, where=str(path))


def finite(value: float) -> float | None:
    """`value`, or None for what JSON has no number for (the ratio of a collapsed layer)."""
    return value if math.isfinite(value) else None


def percent(share: float) -> str:
    """In two digits: 0.912 -> "91 %", 0.0404 -> "4 %", 0.00502 -> "0.5 %"."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"


def _mapping(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object with keys, not {type(value).__name__}")
    return value
