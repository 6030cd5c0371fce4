"""What an evaluation found, and its file."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.core.config import Json, from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import replacing
from limbeck.evaluate.comparison import Comparison
from limbeck.evaluate.config import EvaluateConfig

if TYPE_CHECKING:
    from rich.table import Table

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
        with replacing(path) as unfinished:
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

    def table(self) -> "Table":
        """The rows as a table for people."""
        from limbeck.evaluate.table import table

        return table(self)


def finite(value: float) -> float | None:
    """`value`, or None for what JSON has no number for (the ratio of a collapsed layer)."""
    return value if math.isfinite(value) else None


def _mapping(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object with keys, not {type(value).__name__}")
    return value
