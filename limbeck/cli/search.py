"""Commands that find images by an image: index, search."""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from limbeck.cli.arguments import FLATTENED, Source
from limbeck.cli.command import Command, Output
from limbeck.cli.images import GROUP
from limbeck.core.config import to_json
from limbeck.core.text import plural, printable

Index = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="INDEX")]
Encoder = Annotated[str | None, tyro.conf.arg(name="with", metavar="RUN|EXPORT|timm:NAME")]


def index_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck index`."""
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class IndexArgs:
        source: Source
        """What `limbeck store` takes, or a store."""
        index: Index
        """Folder of the index: a new one, or one that the images are added to."""
        encoder: Encoder = None
        """The network of a new index: a run, an encoder, an export for timm or ONNX, timm:NAME."""
        depth: int | None = None
        """Blocks or stages to use; by default all."""
        search: Literal["auto", "exact", "ivf"] = "auto"
        """exact, ivf (FAISS, approximate, with its recall), or auto: ivf above 500,000 images."""
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return IndexArgs


def _index(args: Any) -> Output:
    from limbeck.api.search import index

    options = {f.name: getattr(args.embed, f.name) for f in dataclasses.fields(args.embed)}
    about = index(args.source, args.index, args.encoder, depth=args.depth, search=args.search, **options)
    how = "exact search" if about.search == "exact" else f"FAISS finds {about.recall:.1%} of the 10 nearest images"
    found = to_json(about)
    assert isinstance(found, dict)
    return Output(
        {"index": args.index, **found},
        [f"{plural(about.images, 'image')} of {plural(about.dim, 'feature')}; {how}", args.index],
        next_commands=[shlex.join(["limbeck", "search", args.index, "QUERY.jpg"])],
    )


def search_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck search`."""
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class SearchArgs:
        index: Index
        """Folder that `limbeck index` wrote."""
        query: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="QUERY")]
        """An image, or a folder of images."""
        k: int = 10
        """Images to find for each query."""
        encoder: Encoder = None
        """The network that made the index, if it has moved since, or an export with --align; another one is refused."""
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return SearchArgs


def _search(args: Any) -> Output:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from limbeck.api.search import search

    options = {f.name: getattr(args.embed, f.name) for f in dataclasses.fields(args.embed)}
    found = search(args.index, args.query, args.k, encoder=args.encoder, **options)
    text: list[Any] = []
    for query in found:
        table = Table("rank", "cosine", "label", "path", box=SIMPLE_HEAD, pad_edge=False)
        for rank, hit in enumerate(query.hits, start=1):
            label, path = (Text(printable(text or ""), overflow="fold") for text in (hit.label, hit.path))
            table.add_row(str(rank), f"{hit.cosine:.4f}", label, path)
        text += [f"nearest to {query.query}:", table]
    queries = [{"query": query.query, "hits": [hit._asdict() for hit in query.hits]} for query in found]
    return Output({"queries": queries}, text)


INDEX = Command(
    GROUP,
    """Make an index of images for `limbeck search`, or add images to one.
  The index holds a vector per image and says which network made it; another one
  is refused. Up to 500,000 images the search is exact, above FAISS is used, and
  its recall is measured.

Examples:
  limbeck index photos/ indexes/photos --with runs/a
  limbeck index more/ indexes/photos""",
    index_arguments,
    _index,
    ("--with", "--depth", "--search", "--batch-size", "--device", "--devices"),
)
SEARCH = Command(
    GROUP,
    """Find the images of an index that are most similar to an image.

Examples:
  limbeck search indexes/photos query.jpg
  limbeck search indexes/photos queries/ --k 5 --json""",
    search_arguments,
    _search,
    ("--k", "--with", "--batch-size", "--device"),
)
