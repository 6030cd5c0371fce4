"""The command export: one file for other programs, or the table of all that there could be."""

import dataclasses
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck.cli.arguments import Flag, Out, Run
from limbeck.cli.command import Command, Output, UsageError
from limbeck.cli.next import open_command
from limbeck.cli.results import USE
from limbeck.core.config import to_json

if TYPE_CHECKING:
    from limbeck.exports import ExportResult

logger = logging.getLogger(__name__)

ESSENTIAL = (
    *("--depth", "--format", "--fold-preprocessing", "--precision", "--image-size", "--images", "--align", "--rotate"),
    *("--all", "--latency", "--size"),
)
"""Flags of the short help."""


@dataclass(frozen=True, kw_only=True)
class ExportArgs:
    """Arguments of `limbeck export`."""

    run: Run
    """Folder of a run or of an encoder."""
    out: Out
    """New folder for the export."""
    depth: int | None = None
    """Blocks or stages to keep; by default all."""
    format: Literal["timm", "onnx", "torch", "executorch"] = "timm"
    """timm, ONNX, torch.export or ExecuTorch (phones)."""
    fold_preprocessing: bool = False
    """Take uint8 pixels and normalize inside the network (all but timm)."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Of an ONNX file: fp16 halves it, int8 quarters it and is faster on most CPUs."""
    images: str | None = None
    """Images that calibrate int8 and prove the file; by default those of the run."""
    keep: float | None = None
    """Share of the 10 nearest neighbors (of a classifier: of the classes) that a reduced precision must keep, or no
    file is written; by default 0.99 in fp16 and 0.97 in int8."""
    mixed: bool = False
    """Keep those layers of an int8 file in float32 that lose most, as many as --keep takes."""
    image_size: tuple[int, ...] = ()
    """Side of the input, pixels; by default as trained. With --all several; by default 1, 3/4 and 1/2 of that."""
    align: Flag = False
    """Map to the features of the whole network, so that its index takes queries of this export (all but timm)."""
    rotate: Literal["none", "pca", "half-whitening"] = "none"
    """Order the features, so that the first k are the best k (all but timm)."""
    all: Flag = False
    """Export nothing, and measure every depth, image size and precision: a page and tables in OUT."""
    latency: str | None = None
    """Choose what keeps most neighbors and takes at most this time on one thread of this CPU, such as 5ms."""
    size: str | None = None
    """The same for the size of the file, such as 3MB."""


def _export(args: ExportArgs) -> Output:
    if args.all:
        return _export_all(args)
    limited = args.latency is not None or args.size is not None
    result = _within_limits(args) if limited else _as_asked(args)
    for sentence in result.sentences():
        logger.info(sentence)
    readme = f"cat {shlex.quote(str(result.path / 'README.md'))}  # the lines that use it"
    return Output(dataclasses.asdict(result) | {"path": str(result.path)}, [str(result.path)], next_commands=[readme])


def _as_asked(args: ExportArgs) -> "ExportResult":
    from limbeck.exports import export

    if len(args.image_size) > 1:
        raise UsageError("an export has one image size: give one, or compare several with --all", code="one-image-size")
    return export(
        args.run,
        args.out,
        args.depth,
        args.format,
        args.fold_preprocessing,
        precision=args.precision,
        images=args.images,
        keep=args.keep,
        mixed=args.mixed,
        image_size=args.image_size[0] if args.image_size else None,
        align=args.align,
        rotate=args.rotate,
    )


def _within_limits(args: ExportArgs) -> "ExportResult":
    from limbeck.api.exports import export_within

    _check_only(args, "images", "fold_preprocessing", "latency", "size", why="--latency and --size choose the export")
    return export_within(
        args.run,
        args.out,
        latency=args.latency,
        size=args.size,
        images=args.images,
        fold_preprocessing=args.fold_preprocessing,
    )


def _export_all(args: ExportArgs) -> Output:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from limbeck.api.exports import export_all
    from limbeck.exports.variants import pareto_front
    from limbeck.reports.variants import COLUMNS, PAGE, headline, openvino_sentences, row, short

    _check_only(args, "images", "image_size", "all", why="--all measures every export")
    found = export_all(args.run, args.out, images=args.images, image_sizes=args.image_size)
    front = pareto_front(found.variants)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for head in short(COLUMNS):
        table.add_column(head, justify="left" if head == "precision" else "right", no_wrap=" " not in head)
    for variant in front:
        table.add_row(*short(row(variant)))
    for sentence in (headline(found, front), *openvino_sentences(found.variants)):
        logger.info(sentence)
    page = str(Path(args.out) / PAGE)
    data = {"page": page, "images": found.images, "variants": [to_json(v) for v in found.variants]}
    limits = shlex.join(["limbeck", "export", args.run, f"{args.out.rstrip('/')}-chosen", "--latency", "5ms"])
    return Output(data, [table, page], next_commands=[open_command(page), limits])


def _check_only(args: ExportArgs, *names: str, why: str) -> None:
    """Raise UsageError for a flag besides those of `names`: it would choose what is chosen already."""
    usual = ExportArgs(run=args.run, out=args.out)
    others = [f.name for f in dataclasses.fields(args) if f.name not in ("run", "out", *names)]
    if given := [name for name in others if getattr(args, name) != getattr(usual, name)]:
        raise UsageError(f"{why}: leave --{given[0].replace('_', '-')} out", code="flag-without-use")


EXPORT = Command(
    USE,
    """Write the trained network, cut at any depth, for timm, ONNX, PyTorch or phones.
  The file is read back and compared with the network before it appears: in fp32
  to rounding, in fp16 or int8 by the nearest neighbors that it keeps. --all
  measures every depth, image size and precision; --latency and --size choose.

Examples:
  limbeck export runs/a models/a
  limbeck export runs/a phone/ --depth 3 --format onnx --fold-preprocessing
  limbeck export runs/a phone/ --format onnx --precision int8
  limbeck export runs/a exports/ --all
  limbeck export runs/a phone/ --latency 5ms --size 3MB""",
    lambda argv: ExportArgs,
    _export,
    ESSENTIAL,
)
