"""Commands that turn a trained network on images: embed."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from limbeck.cli.arguments import FLATTENED, Source
from limbeck.cli.command import Command, Output

GROUP = "Use"
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN|EXPORT|timm:NAME")]


def embed_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck embed`."""
    from limbeck.embeddings import EmbedConfig

    @dataclass(frozen=True, kw_only=True)
    class EmbedArgs:
        source: Source
        """What `limbeck store` takes, or a store."""
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
    data = {
        "embeddings": args.out,
        "images": len(found.paths),
        "dim": found.features.shape[1],
        "depth": found.depth,
        "encoder": args.encoder,
        "digest": found.digest,
    }

    return Output(data, [args.out])


EMBED = Command(
    GROUP,
    """Write one vector per image, as any network at any depth computes it.
  The file has path, label and vector of every image, and the digest of the
  network. The numbers are those of `limbeck evaluate`. They are also cached, so
  that the next command over the same images starts with them; a command that
  was killed goes on where it was.

Examples:
  limbeck embed photos/ --with runs/a --out photos.parquet
  limbeck embed photos/ --with runs/a --depth 3 --out photos.npy
  limbeck embed photos/ --with timm:resnet18 --out photos.parquet --devices 4""",
    embed_arguments,
    _embed,
    ("--with", "--out", "--depth", "--maps", "--batch-size", "--device", "--devices"),
)
