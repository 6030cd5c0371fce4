"""Samples of a source, decoded in parallel, each with everything that is worth a remark.

Checks and stores decode with these functions, so that a check reports what a store does.
"""

import json
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache, partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from limbeck.data.check.issues import Issue, skip_reason
from limbeck.data.decode import SAME_FORMAT, Content, UndecodableError, decode, read_file
from limbeck.data.sources.base import ImageSource, Sample
from limbeck.data.store.layout import Pixels, storable
from limbeck.data.threads import batched, ordered_map

CHUNK = 16  # samples decoded by one task: enough to hide the cost of a task, few enough to hold large files
TINY = 8  # pixels of the short side: the least that a view can have


class DecodedSample(NamedTuple):
    """A sample with its pixels, or with the issue that explains why it has none."""

    path: str
    label: int
    issues: tuple[Issue, ...]
    width: int = 0  # of the upright original; 0 where it could not be decoded
    height: int = 0
    digest: str = ""  # of the file; "" where there was nothing to read
    pixels: Pixels | None = None  # [S S 3]

    def used(self, leave_out: Collection[str]) -> bool:
        """Return whether the sample goes into a store from which the issues `leave_out` are left out."""
        return skip_reason(self.issues, leave_out) is None

    def to_json(self) -> str:
        """Return everything but the pixels as one line of JSON."""
        fields = [storable(self.path), self.label, self.issues, self.width, self.height, self.digest]
        return json.dumps(fields) + "\n"

    @classmethod
    def from_json(cls, line: bytes) -> "DecodedSample | None":
        """Return the sample of a line without its pixels; None where the line is incomplete or damaged."""
        try:
            path, label, issues, width, height, digest = json.loads(line)
            found = tuple(Issue(name, detail) for name, detail in issues)
        except (ValueError, TypeError):
            return None
        return cls(path, label, found, width, height, digest) if line.endswith(b"\n") else None


def decode_samples(
    source: ImageSource, size: int, workers: int | None, first_paths: dict[str, str], skip: int = 0
) -> Iterator[list[DecodedSample]]:
    """Yield the samples of a source in its order, in chunks, resized to `size` pixels.

    Args:
        source: the samples.
        size: side of the decoded images.
        workers: threads; None: one per core.
        first_paths: digest -> path of the first such file, by which duplicates are found; it grows.
        skip: samples at the start that are not read.
    """
    chunks = batched(islice(source.samples(), skip, None), CHUNK)
    for decoded in ordered_map(partial(_decode_chunk, size=size), chunks, workers or os.cpu_count() or 1):
        yield [_mark_duplicate(sample, first_paths) for sample in decoded]


def _decode_chunk(samples: list[Sample], size: int) -> list[DecodedSample]:
    return [decode_sample(sample, size) for sample in samples]


def decode_sample(sample: Sample, size: int) -> DecodedSample:
    """Decode one sample; an image that cannot be decoded becomes an issue."""
    digest = ""
    try:
        content = read_file(sample.content) if isinstance(sample.content, Path) else sample.content
        digest = digest_of(content)
        decoded = decode(content, size)
    except UndecodableError as error:
        return DecodedSample(sample.path, sample.label, (*sample.issues, error.issue), digest=digest)
    issues = sample.issues + decoded.issues
    issues += extension_issue(sample.path, decoded.format) + size_issue(decoded.width, decoded.height)
    return DecodedSample(
        sample.path, sample.label, issues, decoded.width, decoded.height, digest, pixels=decoded.pixels
    )


def digest_of(content: Content) -> str:
    """Return a digest, equal for the same bytes and for equal arrays; "" for an empty file and for anything else."""
    if isinstance(content, bytes) and content:
        return blake2b(content, digest_size=16).hexdigest()
    if isinstance(content, np.ndarray):
        return blake2b(np.ascontiguousarray(content).data, digest_size=16).hexdigest()
    return ""


def extension_issue(path: str, kind: str) -> tuple[Issue, ...]:
    """Return an issue where the extension is that of another format; none where either is unknown."""
    extension = os.path.splitext(path)[1].lower()
    expected = format_by_extension().get(extension)
    if not kind or expected is None or expected == kind:
        return ()
    return (Issue("wrong_extension", f"a {kind} file with the extension {extension}"),)


@cache
def format_by_extension() -> dict[str, str]:
    """Return Pillow's name of the format for every extension that it knows."""
    Image.init()
    return {extension: SAME_FORMAT.get(kind, kind) for extension, kind in Image.EXTENSION.items()}


def size_issue(width: int, height: int) -> tuple[Issue, ...]:
    """Return an issue where an image is too small to learn from."""
    return (Issue("tiny", f"{width} x {height} pixels"),) if min(width, height) < TINY else ()


def _mark_duplicate(sample: DecodedSample, first_paths: dict[str, str]) -> DecodedSample:
    first = remember(sample, first_paths)
    if first == sample.path:
        return sample
    return sample._replace(issues=(*sample.issues, Issue("duplicate", f"the same bytes as {first}")))


def remember(sample: DecodedSample, first_paths: dict[str, str]) -> str:
    """Return the path of the first readable sample with these bytes, which may be this one."""
    return first_paths.setdefault(sample.digest, sample.path) if sample.digest and sample.used(()) else sample.path


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings of broken metadata and of images near its size limit, which are read all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
