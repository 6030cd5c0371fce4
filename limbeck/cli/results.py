"""Commands for trained networks: evaluate, export, report; and demo, which runs everything once."""

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from limbeck.cli.arguments import FLATTENED, Out, Run
from limbeck.cli.command import Command, Output
from limbeck.core.config import to_json
from limbeck.core.run_folder import RESULT
from limbeck.data.check.stats import ALLOW_BAD

logger = logging.getLogger(__name__)
MEASURE, USE = "Evaluate", "Use"


@dataclass(frozen=True, kw_only=True)
class ExportArgs:
    """Arguments of `limbeck export`."""

    run: Run
    """Folder of a run or of an encoder."""
    out: Out
    """New folder for the export."""
    depth: int | None = None
    """Blocks or stages to keep; by default all."""
    format: Literal["timm", "onnx", "torch"] = "timm"
    """timm: a folder for timm.create_model("local-dir:..."); onnx: model.onnx; torch: a torch.export program."""
    fold_preprocessing: bool = False
    """Take uint8 pixels and normalize inside the network (onnx and torch)."""


@dataclass(frozen=True, kw_only=True)
class ReportArgs:
    """Arguments of `limbeck report`."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs."""
    out: str = "report.html"
    """Path of the page."""


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """Arguments of `limbeck demo`."""

    out: str = "demo"
    """Folder for everything that the demo writes."""
    epochs: int = 12
    """Passes over the 4,000 training images, for each of the two runs."""


def evaluate_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck evaluate`."""
    from limbeck.evaluation.config import EvaluateConfig

    @dataclass(frozen=True, kw_only=True)
    class EvaluateArgs:
        run: Run
        """Folder of the run."""
        train: str
        """Labeled images to fit on: what `limbeck store` takes, or a store."""
        test: str
        """Labeled images to score, with the same label names."""
        baseline: str | None = None
        """For a distilled run: folder of a run of the same student without a teacher, to compare with."""
        allow_bad: float = ALLOW_BAD
        """Share of the images of either source that may be unreadable."""
        evaluate: Annotated[EvaluateConfig, FLATTENED] = field(default_factory=EvaluateConfig)

    return EvaluateArgs


def _evaluate(args: Any) -> Output:
    from rich.console import Console

    from limbeck.evaluation.render import comparison_table, layer_table
    from limbeck.runs.api import evaluate_run

    result = evaluate_run(
        args.run,
        args.train,
        args.test,
        args.evaluate,
        baseline=args.baseline,
        allow_bad=args.allow_bad,
    )
    file = Path(args.run) / RESULT
    logger.info("written to %s", file)
    width = Console().width
    text: list[Any] = [layer_table(result, width)]
    if result.comparison:
        text += [comparison_table(result.comparison, width), result.comparison.sentence()]
    data = to_json(result)
    assert isinstance(data, dict)
    run = shlex.quote(args.run)
    return Output(
        {"file": str(file)} | data,
        text,
        next_commands=[f"limbeck report {run}", f"limbeck export {run} model/ --depth N"],
    )


def _export(args: ExportArgs) -> Output:
    from limbeck.exports import export

    result = export(args.run, args.out, args.depth, args.format, args.fold_preprocessing)
    logger.info(
        "depth %d, %d features, %.1f MB; largest difference from PyTorch %.1e; %.2f ms per image on this CPU "
        "(PyTorch %.2f ms)",
        result.depth,
        result.dim,
        result.file_bytes / 1e6,
        result.difference,
        result.latency_ms,
        result.torch_latency_ms,
    )
    return Output(dataclasses.asdict(result) | {"path": str(result.path)}, [str(result.path)])


def _report(args: ReportArgs) -> Output:
    from limbeck.reports import write_report

    page = str(write_report([Path(run) for run in args.runs], Path(args.out)))
    return Output({"report": page}, [page])


def _demo(args: DemoArgs) -> Output:
    from limbeck.demo import demo

    page = str(demo(Path(args.out), args.epochs))
    return Output({"report": page}, [page])


EVALUATE = Command(
    MEASURE,
    """Measure every layer of a run: k-NN, linear probe, rank, size and latency.
  The same network before training is measured as well: the difference is what
  training has bought. A distilled run is compared with its teacher. The table is
  printed, and result.json is written into the run.

Examples:
  limbeck evaluate runs/a --train labeled/train --test labeled/test
  limbeck evaluate runs/student --train labeled/train --test labeled/test --baseline runs/alone""",
    evaluate_arguments,
    _evaluate,
    ("--train", "--test", "--baseline", "--k", "--linear", "--no-latency", "--image-size", "--batch-size", "--device"),
)
REPORT = Command(
    MEASURE,
    """Compare runs on one HTML page.
  It shows how good every layer is, how training went, and how each run can be
  repeated; it needs no network.

Examples:
  limbeck report runs/a runs/b --out report.html""",
    lambda argv: ReportArgs,
    _report,
)
EXPORT = Command(
    USE,
    """Write the trained network, cut at any depth, for timm, ONNX or PyTorch.
  The file is read back and compared with the network before it appears.

Examples:
  limbeck export runs/a models/a
  limbeck export runs/a phone/ --depth 8 --format onnx --fold-preprocessing""",
    lambda argv: ExportArgs,
    _export,
)
DEMO = Command(
    USE,
    """Run everything once on 5,000 handwritten digits, in minutes on a laptop.

Examples:
  limbeck demo
  limbeck demo --out digits --epochs 4""",
    lambda argv: DemoArgs,
    _demo,
)
