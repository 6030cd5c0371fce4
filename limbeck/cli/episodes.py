"""`limbeck episodes`: tell classes apart from few images of each."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from limbeck.cli.arguments import FLATTENED, Source
from limbeck.cli.command import Command, Output
from limbeck.core.config import to_json
from limbeck.core.text import plural

GROUP = "Evaluate"


def episodes_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck episodes`."""
    from limbeck.downstream.fewshot.config import EpisodesConfig, RelationConfig
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class EpisodesArgs:
        source: Source
        """Images in a sub-folder per class, or what `limbeck store` takes."""
        encoder: Annotated[str | None, tyro.conf.arg(name="with", metavar="RUN|EXPORT|timm:NAME")] = None
        """A network whose features are used as they are: a run, an encoder, an export, timm:NAME, a folder."""
        architecture: Annotated[str | None, tyro.conf.arg(name="backbone")] = None
        """In its place: an architecture of timm's, which is trained with the module."""
        depth: int | None = None
        """Blocks or stages to use; by default all."""
        episodes: Annotated[EpisodesConfig, FLATTENED] = field(default_factory=EpisodesConfig)
        relation: RelationConfig = field(default_factory=RelationConfig)
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return EpisodesArgs


def _episodes(args: Any) -> Output:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from limbeck.api.episodes import episodes

    options = {f.name: getattr(args.episodes, f.name) for f in dataclasses.fields(args.episodes)}
    found = episodes(
        *(args.source, args.encoder),
        backbone=args.architecture,
        depth=args.depth,
        relation=args.relation,
        embedding=args.embed,
        **options,
    )
    tables = []
    for kind in dict.fromkeys(scores.kind for scores in found.scores):
        table = Table(kind, "accuracy", box=SIMPLE_HEAD, pad_edge=False)
        for scores in found.scores:
            if scores.kind == kind:
                table.add_row(scores.name, f"{scores.accuracy:.1%} ± {scores.half_width:.1%}")
        tables.append(table)
    data = {f.name: to_json(getattr(found, f.name)) for f in dataclasses.fields(found)}
    words = (
        f"{found.way}-way {found.shot}-shot, {plural(args.episodes.episodes, 'episode')} of "
        f"{len(found.novel)} classes that the training did not see, with the 95 % interval"
    )
    return Output(data, [*tables, words])


EPISODES = Command(
    GROUP,
    """Tell classes apart from few images of each.
  A relation module with memory (a reconstruction of MRN) is trained on episodes of
  half of the classes and measured on those of the others, beside the nearest
  centroid, and beside the module without its parts.

Examples:
  limbeck episodes labeled/ --with runs/a
  limbeck episodes labeled/ --with runs/a --shot 5 --relation.context all
  limbeck episodes labeled/ --backbone resnet10t --steps 2000""",
    episodes_arguments,
    _episodes,
    ("--with", "--backbone", "--way", "--shot", "--queries", "--steps", "--novel", "--depth", "--seed", "--device"),
)
