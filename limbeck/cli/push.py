"""The command push: a network with its card, for the Hugging Face hub."""

import logging
import shlex
from dataclasses import dataclass
from typing import Annotated

import tyro

from limbeck.cli.arguments import Flag, Run
from limbeck.cli.command import Command, Output
from limbeck.cli.results import USE
from limbeck.core.config import to_json
from limbeck.core.text import format_bytes, plural

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PushArgs:
    """Arguments of `limbeck push`."""

    run: Run
    """Folder of a run, an encoder, a classifier or an export for timm."""
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
    """Repository on the hub."""
    to: str | None = None
    """Write exactly what would be sent into this new folder, and send nothing."""
    depth: int | None = None
    """Blocks or stages to keep; by default all."""
    license: str | None = None
    """License of the network, by its identifier on the hub, such as apache-2.0."""
    data: tuple[str, ...] = ()
    """Data sets on the hub that it was trained on, as OWNER/NAME."""
    private: Flag = False
    """Make the repository private."""
    replace: Flag = False
    """Send a new version to a repository that exists; its history keeps the old one."""


def _push(args: PushArgs) -> Output:
    from limbeck.exports.hub.push import push

    found = push(
        args.run,
        args.name,
        to=args.to,
        depth=args.depth,
        license=args.license,
        data=args.data,
        private=args.private,
        replace=args.replace,
    )
    size = format_bytes(sum(found.files.values()))
    logger.info("%s: %s (%s)", plural(len(found.files), "file"), ", ".join(found.files), size)
    following = (
        f"cat {shlex.quote(f'{args.to}/README.md')}  # the card"
        if args.to
        else f"limbeck embed PHOTOS --with hf-hub:{args.name} --out vectors.parquet"
    )
    data = to_json(found)
    assert isinstance(data, dict)
    return Output(data, [found.place], next_commands=[following])


PUSH = Command(
    USE,
    """Send a network to the Hugging Face hub, with a card.
  The card has licenses, results of every layer and the lines that load it; timm
  and Limbeck open it as hf-hub:OWNER/NAME. No file names a folder of this
  machine. --to writes the same files into a folder and sends nothing.

Examples:
  limbeck push runs/a ada/leaves-vit --to card/ --license apache-2.0
  limbeck push runs/a ada/leaves-vit --license apache-2.0 --data ada/leaves""",
    lambda argv: PushArgs,
    _push,
)
