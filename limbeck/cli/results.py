"""Commands for trained networks: evaluate, report; and demo, which runs everything once."""

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from limbeck.cli.arguments import FLATTENED, Flag
from limbeck.cli.command import Command, Output
from limbeck.cli.next import export_commands, open_command, report_command
from limbeck.core.config import to_json
from limbeck.core.run_folder import RESULT
from limbeck.core.text import plural
from limbeck.data.check.issues import ALLOW_BAD

if TYPE_CHECKING:
    from limbeck.evaluation.results import EvaluationResult
    from limbeck.runs.compare import ComparisonWithoutLabels

logger = logging.getLogger(__name__)
MEASURE, USE = "Evaluate", "Use"


@dataclass(frozen=True, kw_only=True)
class CompareArgs:
    """Arguments of `limbeck compare`."""

    networks: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK NETWORK [NETWORK ...]")]
    """Runs, encoders, exports, folders of timm or Hugging Face, timm:NAME."""
    images: str | None = None
    """Images that none of them was trained on; by default those of the first run."""
    count: int = 2000
    """Images to draw; each is seen as it is and in eight views."""
    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1 ..."""
    seed: int = 0
    """Seed of the images and views."""


@dataclass(frozen=True, kw_only=True)
class ReportArgs:
    """Arguments of `limbeck report`."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs."""
    out: str = "report.html"
    """Path of the page."""
    images: bool = True
    """Show training images, their views and nearest neighbors on the page."""


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """Arguments of `limbeck demo`."""

    out: str = "demo"
    """Folder for everything that the demo writes."""
    epochs: int | None = None
    """Passes over the training data in each run; by default 12 over the 4,000 images, and of series what suits them."""
    series: Flag = False
    """Sets of series that aeon contains, in place of digits."""


def evaluate_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck evaluate`."""
    from limbeck.evaluation.config import EvaluateConfig

    @dataclass(frozen=True, kw_only=True)
    class EvaluateArgs:
        networks: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK [NETWORK ...]")]
        """Folders of runs, which are evaluated at every layer; or, as a whole, encoders, exports, folders of timm or
        Hugging Face, timm:NAME."""
        train: str
        """Labeled images (what `limbeck store` takes, or a store) or series to fit on; with --forecast, recordings."""
        test: str
        """Labeled images or series to score, with the same label names; with --forecast, how the recordings go on."""
        others: Annotated[tuple[str, ...], tyro.conf.arg(name="beside", metavar="NAME|FOLDER|RUN ...")] = ()
        """Further networks to compare with, as a whole."""
        allow_bad: float = ALLOW_BAD
        """Share of the images of either source that may be unreadable."""
        exclude: tuple[str, ...] | None = None
        """Leave out images that match one of these patterns, such as '*_mask.png'; by default as in the run."""
        only: tuple[str, ...] | None = None
        """Leave out images that match none of these patterns; by default as in the run."""
        evaluate: Annotated[EvaluateConfig, FLATTENED] = field(default_factory=EvaluateConfig)

    return EvaluateArgs


def _evaluate(args: Any) -> Output:
    from rich.console import Console

    from limbeck.evaluation.render import model_table
    from limbeck.runs.evaluation import evaluate_networks

    found = evaluate_networks(
        args.networks,
        args.train,
        args.test,
        args.evaluate,
        others=args.others,
        allow_bad=args.allow_bad,
        exclude=args.exclude,
        only=args.only,
    )
    data = {run: {"file": str(Path(run) / RESULT), **_json(result)} for run, result in found.results.items()}
    for run in data.values():
        logger.info("written to %s", run["file"])
    width = Console().width
    if len(data) == 1:
        (run_name, result), (only,) = *found.results.items(), data.values()
        return Output(only, _result_text(result, run_name, width), next_commands=_next(found.results))
    verdicts = [f"{run}: {result.verdict}" for run, result in found.results.items() if result.verdict]
    models = [to_json(model) for model in found.models]
    return Output(
        {"networks": models, "results": data},
        [model_table(found.models, width), *verdicts],
        next_commands=_next(found.results),
    )


def _compare(args: CompareArgs) -> Output:
    from limbeck.runs.compare import compare_without_labels

    found = compare_without_labels(args.networks, args.images, count=args.count, device=args.device, seed=args.seed)
    runs = [Path(network.name) for network in found.networks if network.method]
    following = [report_command(runs)] if runs else []
    return Output(found.to_json(), [_measures(found), found.verdict], next_commands=following)


def _measures(found: "ComparisonWithoutLabels") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from limbeck.evaluation.render import short_name

    title = f"{plural(found.images, 'image')} without labels, the last layer"
    columns = ("neighbors of\npatch filters %", "views that find\neach other %", "effective\nrank", "LiDAR", "decay")
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for network in found.networks:
        value = network.values
        shares = [f"{100 * value[key]:.1f}" for key in ("filter_agreement", "view_retrieval")]
        ranks = [f"{value[key]:.1f}" for key in ("effective_rank", "lidar")]
        table.add_row(short_name(network.name), *shares, *ranks, f"{value['spectral_decay']:.2f}")
    return table


def _next(runs: Iterable[str]) -> list[str]:
    paths = [Path(run) for run in runs]
    return [report_command(paths), *export_commands(paths[0])] if paths else []


def _result_text(result: "EvaluationResult", run: str, width: int) -> list[Any]:
    """Return the tables and sentences of one run."""
    from limbeck.evaluation.render import comparison_table, layer_table, reference_table

    text: list[Any] = [layer_table(result, width)]
    if result.references:
        text.append(reference_table(result, run, width))
    if result.comparison:
        text.append(comparison_table(result.comparison, width, result.nouns))
        text.append(result.comparison.sentence(result.nouns))
    return [*text, result.verdict] if result.verdict else text


def _json(result: "EvaluationResult") -> dict[str, Any]:
    data = to_json(result)
    assert isinstance(data, dict)
    return data


def _report(args: ReportArgs) -> Output:
    from limbeck.reports.page import write_report

    page = str(write_report([Path(run) for run in args.runs], Path(args.out), images=args.images))
    return Output({"report": page}, [page], next_commands=[open_command(page), *export_commands(Path(args.runs[0]))])


def _demo(args: DemoArgs) -> Output:
    if args.series:
        from limbeck.demo.series import demo_series

        page = str(demo_series(Path(args.out), args.epochs))
    else:
        from limbeck.demo.images import EPOCHS, demo

        page = str(demo(Path(args.out), EPOCHS if args.epochs is None else args.epochs))
    runs = shlex.quote(str(Path(args.out) / "runs"))
    check = f"limbeck check {'Name_TRAIN.ts' if args.series else 'PHOTOS'}"
    return Output({"report": page}, [page], next_commands=[open_command(page), f"limbeck runs {runs}", check])


EVALUATE = Command(
    MEASURE,
    """Measure every layer of a run: k-NN, linear probe, rank, size and latency.
  The whole network is compared with what needs no training (raw pixels, filters
  from k-means of patches, the same network before training) and with the
  networks after --beside; a distilled run with its teacher. Tables and a verdict
  are printed, and result.json is written into the run. Several networks at once
  give one table.

Examples:
  limbeck evaluate runs/a --train labeled/train --test labeled/test
  limbeck evaluate runs/a --train labeled/train --test labeled/test --beside timm:resnet18 runs/b
  limbeck evaluate runs/a runs/b timm:resnet18 --train labeled/train --test labeled/test
  limbeck evaluate runs/a --train labeled/train --test labeled/test --videos DAVIS/ --copies""",
    evaluate_arguments,
    _evaluate,
    ("--train", "--test", "--beside", "--k", "--linear", "--no-latency", "--image-size", "--batch-size", "--device"),
)
COMPARE = Command(
    MEASURE,
    """Compare runs, or any networks, without labels.
  The same images and eight views of each go through every network: how many
  neighbors by patch filters are shared, how often the views of an image find
  each other, effective rank, LiDAR and the decay of the spectrum. The verdict
  says whether the best two can be told apart, and what that is worth.

Examples:
  limbeck compare runs/a runs/b --images photos/
  limbeck compare runs/a timm:resnet18 --images photos/ --count 500""",
    lambda argv: CompareArgs,
    _compare,
)
REPORT = Command(
    MEASURE,
    """Show one run, or compare several, on one HTML page.
  It has a verdict, pictures of the images and of nearest neighbors, the accuracy
  and the cost of every layer, the curves of training, and how each run can be
  repeated. It needs no network; --no-images leaves the pictures out.

Examples:
  limbeck report runs/a runs/b --out report.html""",
    lambda argv: ReportArgs,
    _report,
)
DEMO = Command(
    USE,
    """Run everything once on 5,000 handwritten digits, in minutes on a laptop.

Examples:
  limbeck demo
  limbeck demo --series --out demo-series
  limbeck demo --out digits --epochs 4""",
    lambda argv: DemoArgs,
    _demo,
)
