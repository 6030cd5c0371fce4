"""Commands about images: check, store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.cli import words
from limbeck.cli.words import Out, Source
from limbeck.data.findings import Choice
from limbeck.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CheckArgs:
    """Look at every file once, before anything is trained: what will be used, what will not, and why.

    Prints a table of findings and writes check.csv (every file with a finding) and check.html (with thumbnails). Of a
    store it says whether it is whole, and whether its source has changed.
    """

    source: Source
    """What `limbeck store` takes, or a store."""
    out: str = "check"
    """Folder for check.csv and check.html."""
    fix_into: str | None = None
    """Also build a store there, of exactly the images that can be used."""
    size: int | None = None
    """Side of the stored images in pixels; by default as `limbeck store` chooses."""
    workers: int | None = None
    """Decoding threads; by default one per core."""
    allow_bad: float = 0.05
    """Share of the images that may be unreadable; more is an error, after the scan."""
    leave_out: tuple[Choice, ...] = ()
    """Findings whose images are not used either."""


@dataclass(frozen=True, kw_only=True)
class StoreArgs:
    """Decode images once into a store: small pictures in one memory map, with labels and a list of what was skipped."""

    source: Source
    """Folder (class sub-folders become labels), .parquet, .tar (WebDataset), .npz or .npy files, or a hub name."""
    out: Out
    """Folder of the new store."""
    size: int | None = None
    """Side in pixels; by default the images' own when small (up to 128), else 256."""
    workers: int | None = None
    """Decoding threads; by default one per core."""
    allow_bad: float = 0.05
    """Share of the images that may be unreadable."""
    leave_out: tuple[Choice, ...] = ()
    """Findings of `limbeck check` whose images are not used either."""


def check(argv: Sequence[str]) -> None:
    """`limbeck check`."""
    args = words.parse(CheckArgs, argv, "check")
    from limbeck.data.doctor import check, check_store
    from limbeck.data.files import is_store

    if is_store(Path(args.source)):
        if args.fix_into:
            raise UserError(f"'{args.source}' is a store already: leave --fix-into out")
        print("\n".join(check_store(Path(args.source))))
        return
    from rich.console import Console

    found = check(**vars(args))
    if found.counts.found:
        Console().print(found.table())
    words.tell(found.sentence())
    words.tell(f"written to {found.folder / 'check.csv'} and {found.folder / 'check.html'}")
    found.require()
    if found.store:
        print(found.store)


def store(argv: Sequence[str]) -> None:
    """`limbeck store`."""
    args = words.parse(StoreArgs, argv, "store")
    from limbeck.data.store import build_store

    print(build_store(**vars(args)).path)
