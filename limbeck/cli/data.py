"""Commands for images: check, store."""

import dataclasses
import logging
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck.cli.arguments import Out, Source
from limbeck.cli.command import Command, Output
from limbeck.core.errors import UserError
from limbeck.data.check.issues import ALLOW_BAD, OptionalIssue
from limbeck.series.recognize import is_series

if TYPE_CHECKING:
    from limbeck.core.runners.run import RunnerConfig
    from limbeck.data.check.scan import Check
    from limbeck.data.store.store import Store
    from limbeck.neighbors.near_duplicate_report import NearDuplicates

logger = logging.getLogger(__name__)
GROUP, IMAGES = "Look at data", "images"


@dataclass(frozen=True, kw_only=True)
class CheckArgs:
    """Arguments of `limbeck check`."""

    source: Source
    """What `limbeck store` takes, or a store; or series (docs/series.md)."""
    out: str = "check"
    """Folder for check.csv and check.html."""
    build_store: str | None = None
    """Also build a store there, of exactly the images that can be used."""
    store_size: int | None = None
    """Side of the stored images in pixels; by default as `limbeck store` chooses."""
    workers: int | None = None
    """Decoding threads, and workers of the runner; by default one per core."""
    runner: Literal["local", "slurm", "ray"] | None = None
    """Who searches near-duplicates: processes of this machine, jobs of SLURM, tasks of Ray; by default this process."""
    runner_args: dict[str, Any] = field(default_factory=dict)
    """For slurm the parameters of submitit, for ray the arguments of ray.init, as JSON."""
    allow_bad: float = ALLOW_BAD
    """Share of the images that may be unreadable; more is an error, after the scan."""
    leave_out: tuple[OptionalIssue, ...] = ()
    """Issue types whose images are skipped as well."""
    exclude: tuple[str, ...] = ()
    """Leave out images that match one of these patterns, such as '*_mask.png', or a folder's name."""
    only: tuple[str, ...] = ()
    """Leave out images that match none of these patterns, such as '*.jpg'."""
    near_duplicates: bool = False
    """Also write near_duplicates.csv, and show the most similar pairs in check.html."""
    against: str | None = None
    """Also list the images that have a near-duplicate in this source, such as a test set."""
    similarity_threshold: float = 0.95
    """Cosine above which two thumbnails count as near-duplicates."""


@dataclass(frozen=True, kw_only=True)
class StoreArgs:
    """Arguments of `limbeck store`."""

    source: Source
    """Folder (class sub-folders become labels), .parquet, .tar (WebDataset), .npz or .npy files, or a hub name."""
    out: Out
    """Folder of the new store."""
    store_size: int | None = None
    """Side of the stored images in pixels; by default their own where that is small (up to 128), else 256."""
    keep: Literal["raw", "jpeg", "webp"] = "raw"
    """Store pixels, or encoded images, which take about a tenth of the room and are decoded while training."""
    depth: Literal["distance", "inverse"] | None = None
    """The images are depth: distances of any unit, or inverse ones (disparity, MiDaS); near becomes white."""
    quality: int | None = None
    """Of encoded images, 1 to 100; by default 90, and small images (up to 64 pixels) lose nothing."""
    workers: int | None = None
    """Decoding threads, or workers of the runner; by default one per core."""
    runner: Literal["local", "slurm", "ray"] | None = None
    """Who encodes: processes of this machine, jobs of SLURM, tasks of Ray; by default threads of this process."""
    runner_args: dict[str, Any] = field(default_factory=dict)
    """For slurm the parameters of submitit, for ray the arguments of ray.init, as JSON."""
    allow_bad: float = ALLOW_BAD
    """Share of the images that may be unreadable."""
    leave_out: tuple[OptionalIssue, ...] = ()
    """Issue types of `limbeck check` whose images are skipped as well."""
    exclude: tuple[str, ...] = ()
    """Leave out images that match one of these patterns, such as '*_mask.png', or a folder's name."""
    only: tuple[str, ...] = ()
    """Leave out images that match none of these patterns, such as '*.jpg'."""
    max_images: int | None = None
    """Take so many images, drawn at random, of a source with more."""


def _check(args: CheckArgs) -> Output:
    from limbeck.data.store.layout import is_store
    from limbeck.modalities import find_modality

    _check_runner(args)
    if (modality := find_modality(args.source)).name == IMAGES:
        return _check_store(args) if is_store(Path(args.source)) else _check_files(args)
    _check_for_images(args, modality.name)
    sentences = modality.check(args.source)
    source = shlex.quote(args.source)
    data = {"source": args.source, "modality": modality.name, "summary": sentences}
    return Output(data, sentences, next_commands=[f"limbeck pretrain {source}"])


def _check_runner(args: CheckArgs) -> None:
    """Raise UserError for a runner without near-duplicates, which is all that it does, or one that is not there."""
    from limbeck.core.runners.run import check_runner

    if args.runner and not (args.near_duplicates or args.against):
        raise UserError(
            f"--runner {args.runner} searches near-duplicates: add --near-duplicates, or leave it out",
            code="flag-without-use",
        )
    check_runner(_runner(args))


def _runner(args: CheckArgs) -> "RunnerConfig":
    from limbeck.core.runners.run import RunnerConfig

    workers = os.cpu_count() or 1 if args.workers is None else args.workers
    return RunnerConfig(runner=args.runner, workers=workers, args=args.runner_args)


def _check_for_images(args: CheckArgs, kind: str) -> None:
    """Raise UserError for a flag that only images have."""
    usual = CheckArgs(source=args.source)
    given = [f.name for f in dataclasses.fields(args) if getattr(args, f.name) != getattr(usual, f.name)]
    if given:
        raise UserError(
            f"--{given[0].replace('_', '-')} is for images, and '{args.source}' holds {kind}: leave it out",
            code="flag-without-use",
        )


def _check_store(args: CheckArgs) -> Output:
    from limbeck.data.check.scan import check_store
    from limbeck.data.store.store import Store

    if args.build_store:
        raise UserError(f"'{args.source}' is a store already: leave --build-store out", code="already-a-store")
    sentences = check_store(Path(args.source))
    data: dict[str, Any] = {"store": args.source, "summary": sentences}
    if args.near_duplicates or args.against:
        found = _near_duplicates(args, Store.open(args.source))
        found.write_page(Path(args.out), sentences[0])
        data |= _near_duplicate_data(args, found)
    return Output(data, sentences, next_commands=_train_on(shlex.quote(args.source)))


def _check_files(args: CheckArgs) -> Output:
    from limbeck.data.check.scan import check
    from limbeck.data.sources.open import open_source
    from limbeck.data.store.layout import is_store
    from limbeck.data.store.open import open_store

    if args.against and not is_store(Path(args.against)):
        open_source(args.against)  # before the scan: it may be misspelled
    if args.near_duplicates or args.against:
        from limbeck.neighbors.near_duplicate_report import check_threshold

        check_threshold(args.similarity_threshold)
    not_for_the_scan = ("near_duplicates", "against", "similarity_threshold", "runner", "runner_args")
    found = check(**{name: value for name, value in vars(args).items() if name not in not_for_the_scan})
    logger.info(found.summary())
    logger.info(found.label_note)
    logger.info("written to %s and %s", found.folder / "check.csv", found.folder / "check.html")
    data, text = _check_data(found), [found.table()] if found.stats.found else []
    try:
        found.raise_if_unacceptable()
    except UserError as error:
        return Output(data, text, error)
    if args.near_duplicates or args.against:
        store = open_store(
            found.store or args.source,
            store_size=args.store_size,
            allow_bad=args.allow_bad,
            exclude=args.exclude,
            only=args.only,
        )
        near = _near_duplicates(args, store)
        found.write_page(near.sections())
        data |= _near_duplicate_data(args, near)
    source = shlex.quote(str(found.store or args.source))
    return Output(data, [*text, *([str(found.store)] if found.store else [])], next_commands=_train_on(source))


def _check_data(found: "Check") -> dict[str, Any]:
    return {
        "source": found.source,
        "images": found.stats.total,
        "used": found.stats.used,
        "ignored": found.stats.ignored,
        "labels": list(found.label_names),
        "issues": dict(found.stats.found),
        "csv": str(found.folder / "check.csv"),
        "html": str(found.folder / "check.html"),
        "store": str(found.store) if found.store else None,
    }


def _near_duplicates(args: CheckArgs, store: "Store") -> "NearDuplicates":
    from limbeck.data.store.open import open_store
    from limbeck.neighbors.near_duplicate_report import find_near_duplicates

    against = open_store(args.against, allow_bad=args.allow_bad) if args.against else None
    runner = _runner(args) if args.runner else None
    found = find_near_duplicates(store, against, threshold=args.similarity_threshold, runner=runner)
    logger.info("%s; listed in %s", found.sentence(), found.write(Path(args.out)))
    return found


def _near_duplicate_data(args: CheckArgs, found: "NearDuplicates") -> dict[str, Any]:
    across = {} if found.across is None else {"in_other_source": len(found.across.indices)}
    file = str(Path(args.out) / "near_duplicates.csv")
    return {"near_duplicates": {"images": len(found.within.indices), **across, "csv": file}}


def _store(args: StoreArgs) -> Output:
    from limbeck.data.store.open import build_store

    if is_series(args.source):
        raise UserError(
            f"'{args.source}' holds series, which need no store: give it to `limbeck pretrain` as it is",
            code="series-need-no-store",
        )
    store = build_store(**vars(args))
    data = {
        "store": str(store.path),
        "images": len(store),
        "size": store.size,
        "keep": args.keep,
        "labels": list(store.label_names),
        "skipped": store.skipped,
        "digest": store.digest,
    }
    return Output(data, [str(store.path)], next_commands=_train_on(shlex.quote(str(store.path))))


def _train_on(source: str) -> list[str]:
    return [f"limbeck plan {source}", f"limbeck pretrain {source}"]


CHECK = Command(
    GROUP,
    """Find images that cannot be used, and near-duplicates.
  Every file is read once. The table of issues is printed; check.csv lists every
  file with an issue, and check.html shows thumbnails. For a store, the command
  verifies its pixels and whether its source has changed.

Examples:
  limbeck check photos/
  limbeck check photos/ --build-store stores/photos --leave-out duplicate
  limbeck check photos/ --near-duplicates --against test/
  limbeck check photos/ --near-duplicates --runner local --workers 16""",
    lambda argv: CheckArgs,
    _check,
    (
        "--out",
        "--build-store",
        "--workers",
        "--runner",
        "--leave-out",
        "--exclude",
        "--only",
        "--near-duplicates",
        "--against",
        "--similarity-threshold",
    ),
)
STORE = Command(
    GROUP,
    """Decode images once into a store, for fast training.
  A store is a folder with the images as one memory-mapped array, or encoded in
  shards (--keep), their labels, and a list of the files that were skipped.

Examples:
  limbeck store photos/ stores/photos
  limbeck store photos/ stores/photos --store-size 256 --leave-out duplicate tiny
  limbeck store photos/ stores/photos --keep jpeg --runner local --workers 16
  limbeck store photos/ stores/photos --exclude '*_mask.png' thumbnails""",
    lambda argv: StoreArgs,
    _store,
    ("--store-size", "--keep", "--workers", "--runner", "--allow-bad", "--leave-out", "--exclude", "--only"),
)
