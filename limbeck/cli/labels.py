"""Commands for few labels: select, classify, predict."""

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from limbeck.cli.arguments import FLATTENED, Source
from limbeck.cli.command import Command, Output
from limbeck.cli.images import With
from limbeck.core.config import to_json
from limbeck.core.text import plural

logger = logging.getLogger(__name__)
GROUP = "Label"


def select_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck select`."""
    from limbeck.downstream.active.config import CyclesConfig, JointConfig
    from limbeck.downstream.selection.config import SelectConfig
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class SelectArgs:
        source: Source
        """What `limbeck store` takes, or a store."""
        encoder: Annotated[str | None, tyro.conf.arg(name="with", metavar="RUN|EXPORT|timm:NAME")] = None
        """The network: a run, an encoder, an export for timm or ONNX, timm:NAME, a folder of timm or Hugging Face; none
        for the strategy moby."""
        labeled: Annotated[str | None, tyro.conf.arg(metavar="ROWS.csv")] = None
        """A list with the columns path and label: what is labeled already."""
        out: str = "selected.csv"
        """New file for the list: path, label (empty without an oracle), rank, reason. Journal and trainings are in a
        folder of the same name."""
        depth: int | None = None
        """Blocks or stages to use; by default all."""
        select: Annotated[SelectConfig, FLATTENED] = field(default_factory=SelectConfig)
        cycle: Annotated[CyclesConfig, FLATTENED] = field(default_factory=CyclesConfig)
        moby: JointConfig = field(default_factory=JointConfig)
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return SelectArgs


def _select(args: Any) -> Output:
    from limbeck.api.select import select
    from limbeck.downstream.active.source import work_folder

    if args.cycle.oracle is not None:
        return _select_in_cycles(args)
    found = select(args.source, args.encoder, out=args.out, **_choice(args))
    data = {name: to_json(value) for name, value in vars(found).items() if name not in ("paths", "reasons", "rows")}
    chosen = [{"path": path, "reason": reason} for path, reason in zip(found.paths, found.reasons, strict=True)]
    logger.info("write a label next to every path in %s", args.out)
    return Output(
        {"list": args.out, **data, "images": chosen},
        [*found.sentences(), args.out],
        next_commands=[_classify_command(args, str(work_folder(Path(args.out)) / "cycle-1"))],
    )


def _select_in_cycles(args: Any) -> Output:
    """Run the cycles, and print a table of them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from limbeck.api.select import select_in_cycles

    options = {f.name: getattr(args.cycle, f.name) for f in dataclasses.fields(args.cycle)}
    found = select_in_cycles(args.source, args.out, args.encoder, **_choice(args), **options)
    measured = [cycle for cycle in found.cycles if cycle.accuracy is not None]
    table = Table("labels", "accuracy", *["random"][: measured[-1].random is not None], box=SIMPLE_HEAD, pad_edge=False)
    for cycle in measured:
        compared = [f"{cycle.random:.1%}"] if cycle.random is not None else []
        table.add_row(f"{cycle.labels:,}", f"{cycle.accuracy:.1%} ± {cycle.stderr:.1%}", *compared)
    rows = [{"labels": c.labels, "accuracy": c.accuracy, "stderr": c.stderr, "random": c.random} for c in measured]
    chosen = [dict(zip(("path", "label"), each, strict=True)) for each in zip(found.paths, found.labels, strict=True)]
    data = {"list": args.out, "strategy": found.strategy, "encoder": found.encoder, "held_out": found.held_out}
    return Output(
        {**data, "folder": str(found.folder), "cycles": rows, "images": chosen},
        [
            table,
            f"accuracy on {plural(found.held_out, 'image')} that are never chosen, with its standard error",
            args.out,
        ],
        next_commands=[_classify_command(args, str(found.folder / f"cycle-{args.cycle.cycles}"))],
    )


def _choice(args: Any) -> dict[str, Any]:
    """Return the keywords that say how to choose, with or without cycles."""
    options = {f.name: getattr(args.select, f.name) for f in dataclasses.fields(args.select)}
    return {**options, "labeled": args.labeled, "depth": args.depth, "joint": args.moby, "embedding": args.embed}


def _classify_command(args: Any, trained: str) -> str:
    """Return the command that comes next; `trained` is the network of a strategy that trains one."""
    return shlex.join(["limbeck", "classify", args.source, "--labels", args.out, "--with", args.encoder or trained])


def classify_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck classify`."""
    from limbeck.classification.config import ClassifyConfig
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class ClassifyArgs:
        source: Source
        """Images in a sub-folder per class, or what `limbeck store` takes."""
        encoder: With
        """The network, which becomes a part of the classifier: a run, an encoder, a timm export, timm:NAME."""
        out: str
        """New folder for the classifier."""
        labels: Annotated[str | None, tyro.conf.arg(metavar="ROWS.csv")] = None
        """A list with the columns path and label, in the place of the labels of the source."""
        classify: Annotated[ClassifyConfig, FLATTENED] = field(default_factory=ClassifyConfig)
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return ClassifyArgs


def _classify(args: Any) -> Output:
    from limbeck.api.classify import classify

    options = {f.name: getattr(args.classify, f.name) for f in dataclasses.fields(args.classify)}
    found = classify(args.source, args.encoder, args.out, labels=args.labels, embedding=args.embed, **options)
    return Output(
        {"classifier": args.out, **vars(found.about)},
        [*found.about.sentences(), args.out],
        next_commands=[
            shlex.join(["limbeck", "predict", args.out, "PHOTOS"]),
            shlex.join(["limbeck", "export", args.out, f"{args.out.rstrip('/')}-onnx", "--format", "onnx"]),
        ],
    )


def predict_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck predict`."""
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class PredictArgs:
        classifier: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CLASSIFIER")]
        """Folder that `limbeck classify` wrote."""
        source: Source
        """What `limbeck store` takes, or a store."""
        out: str = "predictions.csv"
        """File for path, label and probability of every image."""
        threshold: float | None = None
        """Probability below which an image is of none of the classes; by default that of the classifier."""
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return PredictArgs


def _predict(args: Any) -> Output:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from limbeck.api.classify import predict

    found = predict(args.classifier, args.source, args.out, threshold=args.threshold, embedding=args.embed)
    table = Table("label", "images", box=SIMPLE_HEAD, pad_edge=False)
    for label, count in found.counts().items():
        table.add_row(Text(label or f"none (probability below {found.threshold:.2f})"), f"{count:,}")
    score = {"accuracy": found.accuracy, "stderr": found.stderr, "scored": found.scored}
    sentences = [
        f"accuracy {found.accuracy:.1%} ± {found.stderr:.1%} on {plural(found.scored, 'image')} with a label"
        for _ in range(found.accuracy is not None)
    ]
    return Output(
        {"predictions": args.out, "images": len(found.paths), "threshold": found.threshold, **score}
        | {"counts": found.counts()},
        [table, *sentences, args.out],
    )


SELECT = Command(
    GROUP,
    """Choose the images that are worth labeling first.
  Images are compared by the features of a network; those are chosen that are
  typical of the most images without a label. Near-duplicates are chosen once. The
  list is a CSV file with an empty column for the labels. With --oracle, which knows
  all labels, accuracy is measured cycle by cycle; a stopped command, repeated, goes on.

Examples:
  limbeck select photos/ --with runs/a --budget 100
  limbeck select photos/ --with runs/a --labeled selected.csv --out more.csv
  limbeck select photos/ --with runs/a --oracle labels.csv --budget 20 --cycles 5
  limbeck select photos/ --strategy moby --oracle labels.csv --cycles 5 --out b.csv""",
    select_arguments,
    _select,
    (
        "--with",
        "--budget",
        "--strategy",
        "--labeled",
        "--out",
        "--oracle",
        "--cycles",
        "--depth",
        "--pool",
        "--seed",
        "--device",
    ),
)
CLASSIFY = Command(
    GROUP,
    """Fit a classifier to labeled images, from a handful to many.
  A head on the features of a network takes seconds. Depth and strength are chosen
  by leaving images out; accuracy, temperature and the threshold for "none of
  these" are measured on images that were held out. The folder holds the network
  as well: predict uses it, and export makes one timm, ONNX or PyTorch file of it.

Examples:
  limbeck classify labeled/ --with runs/a --out models/a
  limbeck classify photos/ --labels selected.csv --with runs/a --out models/a
  limbeck classify labeled/ --with timm:resnet18 --head logistic --depth 3 --out models/b""",
    classify_arguments,
    _classify,
    ("--with", "--out", "--labels", "--head", "--depth", "--seed", "--batch-size", "--device"),
)
PREDICT = Command(
    GROUP,
    """Classify images: path, label and probability of each.
  An image with a probability below the threshold gets no label: it may be of none
  of the classes. Where the images have labels, the accuracy is printed.

Examples:
  limbeck predict models/a photos/
  limbeck predict models/a photos/ --out labels.csv --threshold 0""",
    predict_arguments,
    _predict,
    ("--out", "--threshold", "--batch-size", "--device"),
)
