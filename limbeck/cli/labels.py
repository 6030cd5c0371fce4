"""Commands for few labels: select."""

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from limbeck.cli.arguments import FLATTENED, Source
from limbeck.cli.command import Command, Output
from limbeck.cli.images import GROUP, With
from limbeck.core.config import to_json

logger = logging.getLogger(__name__)


def select_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck select`."""
    from limbeck.embeddings import EmbedConfig
    from limbeck.selection.select import SelectConfig

    @dataclass(frozen=True, kw_only=True)
    class SelectArgs:
        source: Source
        """What `limbeck store` takes, or a store."""
        encoder: With
        """The network: a run, an encoder, an export for timm or ONNX, timm:NAME, a folder of timm or Hugging Face."""
        labeled: Annotated[str | None, tyro.conf.arg(metavar="ROWS.csv")] = None
        """A list with the columns path and label: what is labeled already."""
        out: str = "selected.csv"
        """New file for the list: path, label (empty), rank, reason."""
        depth: int | None = None
        """Blocks or stages to use; by default all."""
        select: Annotated[SelectConfig, FLATTENED] = field(default_factory=SelectConfig)
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return SelectArgs


def _select(args: Any) -> Output:
    from limbeck.api.select import select

    found = select(
        args.source,
        args.encoder,
        labeled=args.labeled,
        depth=args.depth,
        out=args.out,
        embedding=args.embed,
        **{f.name: getattr(args.select, f.name) for f in dataclasses.fields(args.select)},
    )
    data = {name: to_json(value) for name, value in vars(found).items() if name not in ("paths", "reasons", "rows")}
    chosen = [{"path": path, "reason": reason} for path, reason in zip(found.paths, found.reasons, strict=True)]
    logger.info("write a label next to every path in %s", args.out)
    words = ["limbeck", "classify", args.source, "--labels", args.out, "--with", args.encoder]
    return Output(
        {"list": args.out, **data, "images": chosen},
        [*found.sentences(), args.out],
        next_commands=[shlex.join(words)],
    )


SELECT = Command(
    GROUP,
    """Choose the images that are worth labeling first.
  Images are compared by the features of a network. With few labels or none, those
  are chosen that are typical of the most images; with ten or more per class,
  those that a classifier is least sure of. Near-duplicates are chosen once. The
  list is a CSV file with an empty column for the labels.

Examples:
  limbeck select photos/ --with runs/a --budget 100
  limbeck select photos/ --with timm:resnet18 --budget 20 --strategy k-center
  limbeck select photos/ --with runs/a --labeled selected.csv --out more.csv""",
    select_arguments,
    _select,
    ("--with", "--budget", "--strategy", "--labeled", "--out", "--depth", "--pool", "--seed", "--device"),
)
