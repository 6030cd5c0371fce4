"""Commands about images: check, store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.cli import arguments
from limbeck.cli.arguments import Out, Source
from limbeck.core.errors import UserError
from limbeck.data.check.issues import OptionalIssue

if TYPE_CHECKING:
    from limbeck.data.store.store import Store
    from limbeck.neighbors.near_duplicate_report import NearDuplicates


@dataclass(frozen=True, kw_only=True)
class CheckArgs:
    """Look at every file once, before anything is trained: what will be used, what will not, and why.

    Prints a table of findings and writes check.csv (every file with a finding) and check.html (with thumbnails). Of a
    store it says whether it is whole, and whether its source has changed. --near-duplicates looks for images that look
    alike, in the store or in one that is built as `limbeck pretrain` would.
    """

    source: Source
    """What `limbeck store` takes, or a store."""
    out: str = "check"
    """Folder for check.csv and check.html."""
    build_store: str | None = None
    """Also build a store there, of exactly the images that can be used."""
    store_size: int | None = None
    """Side of the stored images in pixels; by default as `limbeck store` chooses."""
    workers: int | None = None
    """Decoding threads; by default one per core."""
    allow_bad: float = 0.05
    """Share of the images that may be unreadable; more is an error, after the scan."""
    leave_out: tuple[OptionalIssue, ...] = ()
    """Findings whose images are not used either."""
    near_duplicates: bool = False
    """Also write near_duplicates.csv, of images whose thumbnails are alike, and show them in check.html."""
    against: str | None = None
    """Also say which images have a near-duplicate in this source: the training set of a test set, say."""
    similarity_threshold: float = 0.95
    """The cosine of two thumbnails from which on images are near-duplicates."""


@dataclass(frozen=True, kw_only=True)
class StoreArgs:
    """Decode images once into a store: small pictures in one memory map, with labels and a list of what was skipped."""

    source: Source
    """Folder (class sub-folders become labels), .parquet, .tar (WebDataset), .npz or .npy files, or a hub name."""
    out: Out
    """Folder of the new store."""
    store_size: int | None = None
    """Side in pixels; by default the images' own when small (up to 128), else 256."""
    workers: int | None = None
    """Decoding threads; by default one per core."""
    allow_bad: float = 0.05
    """Share of the images that may be unreadable."""
    leave_out: tuple[OptionalIssue, ...] = ()
    """Findings of `limbeck check` whose images are not used either."""


def check(argv: Sequence[str]) -> None:
    """`limbeck check`."""
    args = arguments.parse(CheckArgs, argv, "check")
    from limbeck.data.store.layout import is_store

    if is_store(Path(args.source)):
        _check_store(args)
    else:
        _check_files(args)


def _check_store(args: CheckArgs) -> None:
    from limbeck.data.check.scan import check_store
    from limbeck.data.store.store import Store

    if args.build_store:
        raise UserError(f"'{args.source}' is a store already: leave --build-store out")
    sentences = check_store(Path(args.source))
    print("\n".join(sentences))
    if args.near_duplicates or args.against:
        _near_duplicates(args, Store.open(args.source)).write_page(Path(args.out), sentences[0])


def _check_files(args: CheckArgs) -> None:
    from rich.console import Console

    from limbeck.data.check.scan import check
    from limbeck.data.store.open import open_store

    scan = {
        key: value
        for key, value in vars(args).items()
        if key not in ("near_duplicates", "against", "similarity_threshold")
    }
    found = check(**scan)
    if found.stats.found:
        Console().print(found.table())
    arguments.tell(found.summary())
    arguments.tell(f"written to {found.folder / 'check.csv'} and {found.folder / 'check.html'}")
    found.raise_if_unacceptable()
    if args.near_duplicates or args.against:
        store = open_store(found.store or args.source, store_size=args.store_size, allow_bad=args.allow_bad)
        found.write_page(_near_duplicates(args, store).sections())
    if found.store:
        print(found.store)


def _near_duplicates(args: CheckArgs, store: "Store") -> "NearDuplicates":
    from limbeck.data.store.open import open_store
    from limbeck.neighbors.near_duplicate_report import find_near_duplicates

    against = open_store(args.against, allow_bad=args.allow_bad) if args.against else None
    found = find_near_duplicates(store, against, threshold=args.similarity_threshold)
    arguments.tell(f"{found.sentence()}; listed in {found.write(Path(args.out))}")
    return found


def store(argv: Sequence[str]) -> None:
    """`limbeck store`."""
    args = arguments.parse(StoreArgs, argv, "store")
    from limbeck.data.store.open import build_store

    print(build_store(**vars(args)).path)
