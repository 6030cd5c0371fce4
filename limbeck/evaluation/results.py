"""The result of an evaluation, and its file."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.core.config import Json, from_json, to_json
from limbeck.core.disk import is_refusal, not_readable
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.hits import Hits, unpack_hits
from limbeck.evaluation.metric import Values

VERSION = 4


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """One depth of the backbone."""

    depth: int
    """Blocks or stages of the cut, from 1."""
    values: Values
    """Column of a metric -> value; accuracies are shares in [0, 1]. What was not measured is missing; None is undefined
    or not finite."""
    hits: Hits = field(default_factory=dict, repr=False)
    """Charted accuracy -> the test images that are classified correctly."""

    def __post_init__(self) -> None:
        check_values(self.values, f"layer {self.depth}")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The images of one role in an evaluation."""

    path: str | None
    images: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """One of the models of a comparison, as a whole."""

    name: str
    image_size: int
    """Side of its input, pixels; of series their steps."""
    values: Values
    """Column of a metric -> value, as for `LayerResult`; a teacher has no fidelity to itself."""
    hits: Hits = field(default_factory=dict, repr=False)
    """Charted accuracy -> the test images that are classified correctly; empty where only the values are known."""

    def __post_init__(self) -> None:
        check_values(self.values, self.name)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Students compared with their teacher on the same images."""

    teacher: ModelScores
    students: tuple[ModelScores, ...]
    """The distilled one first."""
    images: int
    """Test images, among which neighbors are searched."""
    num_neighbors: int
    """Neighbors per image."""

    @property
    def models(self) -> tuple[ModelScores, ...]:
        """The first student, the teacher, the other students."""
        return (self.students[0], self.teacher, *self.students[1:])

    @property
    def chance(self) -> float:
        """Neighbor agreement of unrelated features."""
        return self.num_neighbors / (self.images - 1)

    def sentence(self, nouns: tuple[str, str] = ("image", "images")) -> str:
        """Return the fidelity of the first student and its cost, in a sentence; `nouns` name one row and several."""
        first, *others = self.students
        shares = [percent(student.values.get("neighbor_agreement") or 0.0) for student in self.students]
        baselines = "".join(f"{other.name} {share}, " for other, share in zip(others, shares[1:], strict=True))
        return (
            f"the {first.name} preserves {shares[0]} of the teacher's {self.num_neighbors} nearest neighbors "
            f"({baselines}chance {percent(self.chance)}; {self.images:,} test {nouns[1]}) "
            f"{self._relative_cost(first, nouns[0])}"
        )

    def _relative_cost(self, student: ModelScores, noun: str) -> str:
        own, teacher = student.values.get("gflops"), self.teacher.values.get("gflops")
        if not own or not teacher:  # a module that computes without torch is not counted
            return "at unknown relative cost"
        return f"at {percent(own / teacher)} of its GFLOPs per {noun}"


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The values of every layer, with the data and settings from which they were computed."""

    layers: tuple[LayerResult, ...]
    config: EvaluateConfig
    linear_probe: str | None
    """The protocol of the linear probe, "logistic", "sgd", "adam" or "lbfgs"; None without one."""
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    seconds: float
    """Wall time of the whole evaluation."""
    hardware: dict[str, str]
    command: str
    """The command line of the process."""
    image_size: int
    """Side of the network's input, pixels; of series their steps."""
    nouns: tuple[str, str] = ("image", "images")
    """Nouns for one row of the data, and for several."""
    k: int | None = None
    """Neighbors of the weighted k-NN, which may be fewer than in `config`; None without labels."""
    references: tuple[ModelScores, ...] = ()
    """Reference rows of the table: the untrained network, raw pixels, patch filters, and networks that were named."""
    verdict: str = ""
    """One sentence about what training has brought; empty without labels."""
    comparison: Comparison | None = None
    """A distilled network compared with its teacher."""
    keypoints: tuple[str, ...] = ()
    """Names of the annotated keypoints, where a keypoint detector was evaluated."""
    confusions: tuple[tuple[int, int, int], ...] = ()
    """Of the linear probe at the last depth: label, predicted label (both positions in `classes`) and number of test
    images, of all pairs that occur; empty without a probe."""

    def __post_init__(self) -> None:
        """Raise UserError for hits or confusions that there cannot be, as in a damaged file."""
        scores: Iterable[LayerResult | ModelScores] = (*self.layers, *self.references)
        for packed in (packed for each in scores for packed in each.hits.values()):
            unpack_hits(packed, self.test.images)
        for label, predicted, images in self.confusions:
            if not (0 <= label < len(self.classes) and 0 <= predicted < len(self.classes) and images > 0):
                raise UserError(
                    f"confusion {[label, predicted, images]} is of none of the {len(self.classes)} classes: evaluate "
                    "again",
                    code="not-a-result",
                )

    def save(self, path: Path) -> None:
        """Write JSON to `path`, whole or not at all."""
        data = {"version": VERSION} | _mapping(to_json(self))
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "EvaluationResult":
        """Read a file that `save` wrote.

        Raises:
            UserError: the file is something else, damaged, or of another version.
        """
        try:
            data = _mapping(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            if is_refusal(error):
                raise not_readable(path, error) from error
            raise UserError(
                f"'{path}' is not a result of `limbeck evaluate` ({one_line(error)}); evaluate again",
                code="not-a-result",
            ) from error
        version = data.pop("version", None)
        if version != VERSION:
            raise UserError(
                f"'{path}' has version {version!r} and this Limbeck reads version {VERSION}; evaluate again",
                code="result-version",
            )
        return from_json(cls, data, where=str(path))


def check_values(values: Values, where: str) -> None:
    """Raise UserError where a value is neither a number nor None, as in a damaged file."""
    for name, value in values.items():
        if not (value is None or (isinstance(value, int | float) and not isinstance(value, bool))):
            raise UserError(f"'{name}' of {where} is {value!r}, which is not a number", code="not-a-result")


def percent(share: float) -> str:
    """Return a share with two digits: 0.912 -> "91 %", 0.0404 -> "4 %", 0.00502 -> "0.5 %"."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"


def _mapping(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object with keys, not {type(value).__name__}")
    return value
