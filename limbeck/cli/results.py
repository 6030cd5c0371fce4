"""Commands about what came of a run: evaluate, export, report; and the demo of everything."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from limbeck.cli import arguments
from limbeck.cli.arguments import Out, Run
from limbeck.core.run_folder import RESULT


@dataclass(frozen=True, kw_only=True)
class ExportArgs:
    """Write the trained network, cut at a depth, and prove that the file is the same network."""

    run: Run
    """Folder of a run, or of an encoder."""
    out: Out
    """New folder for the export."""
    depth: int | None = None
    """Blocks or stages to keep; by default all."""
    format: Literal["timm", "onnx", "torch"] = "timm"
    """timm: a folder for timm.create_model("local-dir:..."); onnx: model.onnx; torch: a torch.export program."""
    fold_preprocessing: bool = False
    """Take uint8 pixels and normalise inside the network (onnx and torch)."""


@dataclass(frozen=True, kw_only=True)
class ReportArgs:
    """One HTML page about runs: what each layer is worth, how training went, how each run can be repeated."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs."""
    out: str = "report.html"
    """The page."""


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """The whole way on 5,000 handwritten digits, in minutes on a laptop: store, pretrain, evaluate, cut, report."""

    out: str = "demo"
    """Folder for everything that the demo writes."""
    epochs: int = 12
    """Passes over the 4,000 training images, for each of the two runs."""


def evaluate(argv: Sequence[str]) -> None:
    """`limbeck evaluate`."""
    from rich.console import Console

    from limbeck.evaluate.config import EvaluateConfig
    from limbeck.evaluate.render import comparison_table, layer_table
    from limbeck.runs.api import evaluate_run

    @dataclass(frozen=True, kw_only=True)
    class EvaluateArgs:
        """Judge every layer: k-NN, linear probe, alignment, rank and cost, beside the same network untrained."""

        run: Run
        """Folder of the run."""
        train: str
        """Labelled images to fit on: what `limbeck store` takes, or a store."""
        test: str
        """Labelled images to score, with the same label names."""
        baseline: str | None = None
        """Of a distilled run: folder of a run of the same network without a teacher, to stand beside."""
        allow_bad: float = 0.05
        """Share of the images of either that may be unreadable."""
        evaluate: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(default_factory=EvaluateConfig)

    args = arguments.parse(EvaluateArgs, argv, "evaluate")
    result = evaluate_run(
        args.run,
        args.train,
        args.test,
        args.evaluate,
        baseline=args.baseline,
        allow_bad=args.allow_bad,
        say=arguments.tell,
    )
    console = Console()
    console.print(layer_table(result, console.width))
    if result.comparison:
        console.print(comparison_table(result.comparison, console.width))
        print(result.comparison.sentence())
    arguments.tell(f"written to {Path(args.run) / RESULT}")


def export(argv: Sequence[str]) -> None:
    """`limbeck export`."""
    args = arguments.parse(ExportArgs, argv, "export")
    from limbeck.export import export

    result = export(args.run, args.out, args.depth, args.format, args.fold_preprocessing)
    arguments.tell(
        f"depth {result.depth}, {result.dim} features, {result.file_bytes / 1e6:.1f} MB; "
        f"largest difference from PyTorch {result.difference:.1e}; "
        f"{result.latency_ms:.2f} ms per image on this CPU (PyTorch {result.torch_latency_ms:.2f} ms)"
    )
    print(result.path)


def report(argv: Sequence[str]) -> None:
    """`limbeck report`."""
    args = arguments.parse(ReportArgs, argv, "report")
    from limbeck.report import write_report

    print(write_report([Path(run) for run in args.runs], Path(args.out)))


def demo(argv: Sequence[str]) -> None:
    """`limbeck demo`."""
    args = arguments.parse(DemoArgs, argv, "demo")
    from limbeck.demo import demo

    print(demo(Path(args.out), args.epochs, arguments.tell))
