"""A run as an object: a path that also reads its metrics, evaluates, exports and shows itself."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.html import render
from limbeck.core.run_folder import ADAPTATION, METRICS, RESULT
from limbeck.runs.config import RunConfig, read_config
from limbeck.runs.listing import RunStatus, read_metrics, read_status

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.data.sources.open import Source
    from limbeck.evaluation.adaptation import Adaptation
    from limbeck.evaluation.results import EvaluationResult
    from limbeck.exports import ExportResult, Format


class Run(os.PathLike[str]):
    """A run folder; wherever Limbeck takes the path of a run, it takes this, too.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Return the run in a folder; raise UserError if there is none, or it is of another version."""
        run = cls(path)
        read_config(run.path)
        return run

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path.resolve() == other.path.resolve()

    def __hash__(self) -> int:
        return hash(self.path.resolve())

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self._sentence()})"

    @property
    def config(self) -> RunConfig:
        """Everything that defines the run, as config.json holds it."""
        return read_config(self.path)

    @property
    def status(self) -> RunStatus:
        """Summarize the run: method, progress, accuracy."""
        return read_status(self.path)

    @property
    def result(self) -> "EvaluationResult | None":
        """The result of the last evaluation; None before the first."""
        from limbeck.evaluation.results import EvaluationResult

        file = self.path / RESULT
        return EvaluationResult.load(file) if file.is_file() else None

    @property
    def adaptation(self) -> "Adaptation | None":
        """Whether adapted weights are better than those they started from; None for other runs, and before the end."""
        from limbeck.evaluation.adaptation import Adaptation

        file = self.path / ADAPTATION
        return Adaptation.load(file) if file.is_file() else None

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Return the columns of metrics.csv, NaN where a row has no value: `pandas.DataFrame(run.metrics())`."""
        rows = read_metrics(self.path / METRICS)
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}

    def load(self, depth: int | None = None) -> "Encoder":
        """Return the trained encoder, cut at `depth`, in evaluation mode."""
        from limbeck.core.encoder_modality import encoder_modality
        from limbeck.modalities import modality_named

        return modality_named(encoder_modality(self.path)).load_encoder(self.path, depth).eval()

    def evaluate(self, train: "Source", test: "Source", **options: Any) -> "EvaluationResult":
        """Measure every layer on labeled images; see `limbeck.evaluate`."""
        from limbeck.api.functions import evaluate

        return evaluate(self, train, test, **options)

    def export(
        self,
        out: str | os.PathLike[str],
        depth: int | None = None,
        format: "Format" = "timm",
        fold_preprocessing: bool = False,
        **options: Any,
    ) -> "ExportResult":
        """Write the encoder, cut at `depth`, for timm, ONNX or PyTorch; see `limbeck.export`."""
        from limbeck.exports import export

        return export(self, out, depth, format, fold_preprocessing, **options)

    def report(
        self,
        out: str | os.PathLike[str] | None = None,
        others: Sequence[str | os.PathLike[str]] = (),
        *,
        images: bool = True,
    ) -> Path:
        """Write the HTML page about this run and `others`, by default into the run, and return its path."""
        from limbeck.api.functions import report

        return report([self, *others], self.path / "report.html" if out is None else out, images=images)

    def show(self) -> None:
        """Show state and scores: as a table in a notebook, else as text."""
        notebook: Any = sys.modules.get("IPython")
        if notebook is not None and notebook.get_ipython() is not None:
            notebook.display.display(self)
        else:
            print(self._text())

    def _repr_html_(self) -> str:
        status, layers = self.status, self._layers()
        return render("run.html", path=str(self.path), rows=self._rows(status), layers=layers)

    def _sentence(self) -> str:
        status = self.status
        return f"{status.method}, {status.network}, {status.progress}"

    def _text(self) -> str:
        rows = [f"{name:10} {value}" for name, value in self._rows(self.status)]
        layers = [f"layer {depth:>3}  k-NN {knn}, before training {before}" for depth, knn, before in self._layers()]
        return "\n".join([str(self.path), *rows, *layers])

    def _rows(self, status: RunStatus) -> list[tuple[str, str]]:
        """Return the summary as pairs of a name and a value."""
        found = {
            "method": status.method,
            "teacher": status.teacher,
            "network": status.network,
            "images": None if status.images is None else f"{status.images:,}",
            "state": status.progress,
            "loss": None if status.loss is None else f"{status.loss:.4g}",
            "k-NN": None if status.knn is None else f"{status.knn:.1%}",
        }
        return [(name, value) for name, value in found.items() if value]

    def _layers(self) -> list[tuple[int, str, str]]:
        """Return depth, k-NN accuracy and that of the untrained network for every layer that was evaluated."""

        def percent(share: float | None) -> str:
            return "-" if share is None else f"{share:.1%}"

        layers = self.result.layers if self.result else ()
        return [(x.depth, percent(x.values.get("knn")), percent(x.values.get("untrained_knn"))) for x in layers]
