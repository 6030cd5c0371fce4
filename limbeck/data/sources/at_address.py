"""Sources at addresses such as `s3://bucket/photos`: images, tar files and parquet files, read by range."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from limbeck.core.errors import UserError
from limbeck.core.text import format_bytes
from limbeck.data.address import Address, address_errors, file_system, is_address, state_of
from limbeck.data.check.issues import Issue
from limbeck.data.decode import MAX_BYTES, Content, UndecodableError
from limbeck.data.fingerprint import FileState, state_fingerprint
from limbeck.data.sources.base import ImageSource, LeftOut, Sample, SourceType
from limbeck.data.sources.folder_classes import find_classes
from limbeck.data.sources.names import why_ignored
from limbeck.data.sources.parquet import SOURCE as PARQUET
from limbeck.data.sources.parquet import open_parquet
from limbeck.data.sources.webdataset import SOURCE as TAR
from limbeck.data.sources.webdataset import open_shards
from limbeck.data.threads import batched

AT_ONCE = 64  # files that are fetched together, by as many connections as the file system has
KINDS = ((TAR, open_shards), (PARQUET, open_parquet))


def open_address(url: str) -> ImageSource:
    """Return the images at an address: a file, a pattern of files, or everything below it.

    Raises:
        UserError: it cannot be reached, or holds no images.
    """
    with address_errors(url):
        files = file_system(url)
        root = files._strip_protocol(url)
        found: dict[str, Any] = files.glob(root, detail=True) if "*" in root else files.find(root, detail=True)
        if not found and "*" not in root:
            files.info(root)  # which says why, where the listing does not
    found = {path: info for path, info in sorted(found.items()) if info.get("type", "file") == "file"}
    if not found:
        raise UserError(f"there is nothing at '{url}': give another address", code="source-missing")
    base = root.partition("*")[0].rpartition("/")[0] if "*" in root or [*found] == [root] else root.rstrip("/")
    names = {path: path.removeprefix(base).lstrip("/") for path in found}
    images = {path: name for path, name in names.items() if not why_ignored(name)}
    if images:
        others = [LeftOut(name, Issue("not_an_image", why_ignored(name))) for name in names.values()]
        return _images(url, {path: found[path] for path in images}, images, [o for o in others if o.issue.detail])
    for kind, opened in KINDS:
        shards = [Address(files.unstrip_protocol(path), path) for path in found if kind.reads(path)]
        if shards:
            return opened(shards, url)
    raise UserError(
        f"'{url}' holds no images, .tar or .parquet files, but for instance '{next(iter(names.values()))}': give "
        "another address, or copy other kinds of files to a disk",
        code="no-images",
    )


def _images(url: str, found: dict[str, Any], names: dict[str, str], left_out: Sequence[LeftOut]) -> ImageSource:
    classes = find_classes(names.values())
    states = [FileState(names[path], *state_of(info)) for path, info in found.items()]

    def samples() -> Iterator[Sample]:
        for some in batched(iter(found), AT_ONCE):
            contents = _fetch(url, {path: found[path] for path in some})
            yield from (Sample(names[path], contents[path], classes.label(names[path])) for path in some)

    return ImageSource(
        name=url,
        samples=samples,
        count=len(found),
        label_names=classes.names,
        label_origin=classes.origin,
        label_problems=Counter({classes.problem: len(found)} if classes.problem else {}),
        left_out=left_out,
        fingerprint=state_fingerprint(states),
        files=lambda: iter(states),
    )


def _fetch(url: str, found: dict[str, Any]) -> dict[str, Content]:
    """Return the content of files by path; one that cannot be read is an error in its place."""
    large = {path for path, info in found.items() if (info.get("size") or 0) > MAX_BYTES}
    with address_errors(url):
        read = file_system(url).cat([path for path in found if path not in large], on_error="return")
    contents: dict[str, Content] = {}
    for path, info in found.items():
        content = read.get(path)
        if isinstance(content, bytes):
            contents[path] = content
        elif path in large:
            reason = f"{format_bytes(info['size'])} are too many for an image"
            contents[path] = UndecodableError(reason, "too_many_pixels")
        else:
            contents[path] = UndecodableError(f"it cannot be fetched any more ({content!r:.100})")
    return contents


SOURCE = SourceType(
    description="an address of these (s3://, gs://, with the plug-in of fsspec for it)",
    accepts=is_address,
    open_value=open_address,
)
