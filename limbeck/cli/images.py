"""Commands that use a network on images: explore, and embed, which takes series, too."""

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from limbeck.cli.arguments import FLATTENED, Source
from limbeck.cli.command import Command, Output
from limbeck.cli.next import open_command
from limbeck.core.encoder_modality import encoder_modality
from limbeck.series.recognize import is_series

logger = logging.getLogger(__name__)
GROUP = "Use"
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN|EXPORT|timm:NAME")]


def embed_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck embed`."""
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class EmbedArgs:
        source: Source
        """What `limbeck store` takes, a store, or series, as `limbeck pretrain` takes them."""
        encoder: With
        """The network: a run, an encoder, an export for timm or ONNX, timm:NAME, a folder of timm or Hugging Face."""
        out: str
        """The file: .parquet (path, label, vector), .npy with a .csv of paths, or .csv."""
        depth: int | None = None
        """Blocks or stages to use; by default all."""
        maps: bool = False
        """Also write the feature maps (.parquet and .npy)."""
        settings: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return EmbedArgs


def _embed(args: Any) -> Output:
    from limbeck.api.embed import embed

    options = {field.name: getattr(args.settings, field.name) for field in dataclasses.fields(args.settings)}
    found = embed(args.source, args.encoder, args.out, depth=args.depth, maps=args.maps, **options)
    series = is_series(args.source)
    data = {
        "embeddings": args.out,
        "series" if series else "images": len(found.paths),
        "dim": found.features.shape[1],
        "depth": found.depth,
        "encoder": args.encoder,
        "digest": found.digest,
    }

    explore = shlex.join(["limbeck", "explore", args.source, "--with", args.encoder])
    return Output(data, [args.out], next_commands=[] if encoder_modality(args.encoder) else [explore])


def explore_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck explore`."""
    from limbeck.downstream.explorer.config import ExploreConfig
    from limbeck.embeddings.config import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class ExploreArgs:
        source: Source
        """What `limbeck store` takes, or a store."""
        encoder: With
        """The network: a run, an encoder, an export for timm or ONNX, timm:NAME, a folder of timm or Hugging Face."""
        out: str | None = None
        """Path of the page, or with --serve of the table (.parquet); by default explore.html, or explore.parquet."""
        serve: bool = False
        """Write a table for millions of images and show it in Embedding Atlas on this machine, if that is installed."""
        page: Annotated[ExploreConfig, FLATTENED] = field(default_factory=ExploreConfig)
        embed: Annotated[EmbedConfig, FLATTENED] = field(default_factory=EmbedConfig)

    return ExploreArgs


def _explore(args: Any) -> Output:
    return _explore_table(args) if args.serve else _explore_page(args)


def _explore_page(args: Any) -> Output:
    from limbeck.core.text import format_bytes
    from limbeck.downstream.explorer.build import write_explorer

    found = write_explorer(args.source, args.encoder, args.out or "explore.html", cfg=args.page, embed=args.embed)
    if found is None:  # another process makes the page
        return Output({})
    size = format_bytes(found.bytes)
    logger.info("%s images, %s, thumbnails of %d pixels, %s", f"{found.images:,}", found.layout, found.tile, size)
    data = dataclasses.asdict(found) | {"path": str(found.path)}
    return Output(data, [str(found.path)], next_commands=[open_command(str(found.path))])


def _explore_table(args: Any) -> Output:
    from limbeck.core.text import format_bytes
    from limbeck.downstream.explorer.table import write_table
    from limbeck.downstream.explorer.viewer import INSTALL, find_viewer, viewer_command

    found = write_table(args.source, args.encoder, args.out or "explore.parquet", cfg=args.page, embed=args.embed)
    if found is None:  # another process writes the table
        return Output({})
    logger.info("'%s': %s images, %s, %s", found.path, f"{found.images:,}", found.layout, format_bytes(found.bytes))
    program, command = find_viewer(), viewer_command(found.path)
    data = dataclasses.asdict(found) | {"path": str(found.path), "viewer": program, "command": command}
    if program is None:
        shown = shlex.join(command)
        logger.warning("no viewer is on PATH: install Embedding Atlas with `%s`, then `%s`", INSTALL, shown)
    else:
        _show_until_interrupted(program, command)
    return Output(data, [str(found.path)])


def _show_until_interrupted(program: str, command: Sequence[str]) -> None:
    """Run the viewer; Ctrl-C ends it, and is no failure."""
    from limbeck.cli.signals import Stopped
    from limbeck.downstream.explorer.viewer import run_viewer

    logger.info("Ctrl-C ends the viewer")
    try:
        run_viewer(program, command)
    except Stopped:
        raise
    except KeyboardInterrupt:
        logger.info("the viewer has ended")


EXPLORE = Command(
    GROUP,
    """Write a page with a map of all images: similar ones are near each other.
  Point at an image to see it; select it to see its nearest images at every
  depth of the network. Color by label, cluster, how unusual an image is, or
  where its neighbors have another label; draw a lasso to list files. One HTML
  file of at most 12 MB for 50,000 images, which needs no network. For millions,
  --serve writes a table instead and shows it in a viewer.

Examples:
  limbeck explore photos/ --with runs/a
  limbeck explore photos/ --with timm:resnet18 --out photos.html
  limbeck explore stores/large --with runs/a --sample 50000
  limbeck explore stores/large --with runs/a --serve""",
    explore_arguments,
    _explore,
    ("--with", "--out", "--serve", "--layout", "--clusters", "--sample", "--seed", "--batch-size", "--device"),
)
EMBED = Command(
    GROUP,
    """Write one vector per image or series, as any network at any depth computes it.
  The file has path, label and vector of every image, and the digest of the
  network. The numbers are those of `limbeck evaluate`. Those of images are cached,
  so that the next command over the same images starts with them; a command
  that was killed goes on where it was.

Examples:
  limbeck embed photos/ --with runs/a --out photos.parquet
  limbeck embed photos/ --with runs/a --depth 3 --out photos.npy
  limbeck embed photos/ --with timm:resnet18 --out photos.parquet --devices 4
  limbeck embed Name_TEST.ts --with runs/series --out series.parquet""",
    embed_arguments,
    _embed,
    ("--with", "--out", "--depth", "--maps", "--batch-size", "--device", "--devices"),
)
