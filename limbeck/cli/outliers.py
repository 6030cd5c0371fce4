"""`limbeck outliers`: score how unusual images are."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from limbeck.cli.arguments import FLATTENED, Source
from limbeck.cli.command import Command, Output
from limbeck.cli.images import GROUP, With
from limbeck.cli.next import open_command
from limbeck.core.text import printable

if TYPE_CHECKING:
    from limbeck.downstream.anomalies.source import Outliers

PRINTED = 10  # images in the table of the terminal


def outlier_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck outliers`."""
    from limbeck.downstream.anomalies.config import OutlierConfig
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class OutlierArgs:
        source: Source
        """What `limbeck store` takes, or a store."""
        encoder: With
        """The network: a run, an encoder, an export for timm or ONNX, timm:NAME, a folder of timm or Hugging Face."""
        normal: Annotated[str | None, tyro.conf.arg(metavar="SOURCE|None")] = None
        """Images that are known to be normal; by default each image is compared with the others of SOURCE."""
        out: str = "outliers.html"
        """The result: .html for a page of the most unusual images, .csv for the scores of all."""
        detector: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|None")] = None
        """New folder for network and memory as one ONNX file, which returns scores and heat maps (of patches)."""
        depth: int | None = None
        """Block or stage; by default the last one, of patches the one at two thirds of the network."""
        outliers: Annotated[OutlierConfig, FLATTENED] = field(default_factory=OutlierConfig)
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return OutlierArgs


def _outliers(args: Any) -> Output:
    from limbeck.api.outliers import outliers

    options = {f.name: getattr(args.outliers, f.name) for f in dataclasses.fields(args.outliers)}
    found = outliers(
        args.source,
        args.encoder,
        args.out,
        normal=args.normal,
        depth=args.depth,
        detector=args.detector,
        embedding=args.embed,
        **options,
    )
    data = {"file": args.out, "compare": found.compare, "encoder": args.encoder, "depth": found.depth}
    data |= {"normal": found.normal, "identical": found.identical, "threshold": found.threshold}
    data |= {"detector": args.detector, "images": list(found.table())}
    page = [open_command(args.out)] if Path(args.out).suffix == ".html" else []
    files = [args.out, *([args.detector] if args.detector else [])]
    return Output(data, [_table(found), *found.sentences(), *files], next_commands=page)


def _table(found: "Outliers") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table("rank", "score", "path", box=SIMPLE_HEAD, pad_edge=False)
    for rank, row in enumerate(found.order[:PRINTED], start=1):
        table.add_row(str(rank), f"{found.scores[row]:#.4g}", Text(printable(found.paths[row]), overflow="fold"))
    return table


OUTLIERS = Command(
    GROUP,
    """Find images that are unlike the others, or unlike normal ones.
  By default an image is as unusual as its vector is far from the nearest ones.
  With --compare patches every place of a feature map is compared with a memory of
  places, and a heat map shows what is unusual in an image. With --normal the score
  has a threshold that 95 % of the normal images do not exceed.

Examples:
  limbeck outliers photos/ --with runs/a
  limbeck outliers photos/ --with timm:resnet18 --out scores.csv
  limbeck outliers parts/ --with runs/a --normal good/ --compare patches --detector models/parts""",
    outlier_arguments,
    _outliers,
    (
        "--with",
        "--normal",
        "--compare",
        "--detector",
        "--out",
        "--depth",
        "--k",
        "--memory",
        "--seed",
        "--batch-size",
        "--device",
    ),
)
