"""Samples of a source, decoded in parallel, each with everything that is worth a remark.

Checks and stores decode with these functions, so that a check reports what a store does.
"""

import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from limbeck.core.text import printable
from limbeck.data.check.issues import Issue, skip_reason
from limbeck.data.decode import SAME_FORMAT, Content, UndecodableError, decode, read_file
from limbeck.data.first_paths import FirstPaths
from limbeck.data.sources.base import Sample
from limbeck.data.sources.names import has_image_suffix
from limbeck.data.store.layout import Pixels, storable
from limbeck.data.threads import batched, ordered_map

CHUNK = 16  # samples decoded by one task: enough to hide the cost of a task, few enough to hold large files
CHUNK_PIXELS = 2**22  # that a task holds at most, unless one image has more
ELONGATED = 3  # long side over short side: twice as far from a square as usual photographs
CONSTANT = 4  # of 255: the noise of a strongly compressed plain surface
DARK = 32  # of 255: hardly distinguishable from black on a screen
TWO_TONE = 0.9  # share of pixels near one of two values
MASK = re.compile(
    r"(?:^|[^a-z])(?:masks?|gt|ground_?truths?|seg|segmentations?|annotations?|labels?)(?:[^a-z]|$)", re.I
)
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
    encoded: bytes = b""  # the pixels as they are stored, where they are encoded

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
    samples: Iterator[Sample],
    size: int,
    workers: int | None,
    *,
    previous: str = "",
    encode: Callable[[Pixels], bytes] | None = None,
) -> Iterator[list[DecodedSample]]:
    """Yield samples in their order, in chunks, resized to `size` pixels; duplicates are not marked.

    Args:
        samples: consecutive samples of a source.
        size: side of the decoded images.
        workers: threads; None: one per core.
        previous: path of the sample before the first one.
        encode: makes `DecodedSample.encoded`.
    """
    decode = partial(_decode_chunk, size=size, encode=encode)
    chunks = batched(samples, max(1, min(CHUNK, CHUNK_PIXELS // size**2)))
    for decoded in ordered_map(decode, chunks, workers or os.cpu_count() or 1):
        paths = [previous, *(sample.path for sample in decoded)]
        yield [mark_mask(sample, before) for sample, before in zip(decoded, paths, strict=False)]
        previous = paths[-1]


def _decode_chunk(samples: list[Sample], size: int, encode: Callable[[Pixels], bytes] | None) -> list[DecodedSample]:
    decoded = [decode_sample(sample, size) for sample in samples]
    if encode is None:
        return decoded
    return [s if s.pixels is None else s._replace(encoded=encode(s.pixels)) for s in decoded]


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
    issues += extension_issue(sample.path, decoded.format) + size_issues(decoded.width, decoded.height)
    issues += pixel_issues(decoded.pixels)
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
    """Return Pillow's name of the format for every extension that it supports."""
    Image.init()
    return {extension: SAME_FORMAT.get(kind, kind) for extension, kind in Image.EXTENSION.items()}


def size_issues(width: int, height: int) -> tuple[Issue, ...]:
    """Return issues where an image is too small to learn from, or much longer in one direction."""
    extent, short, long = f"{width} x {height} pixels", min(width, height), max(width, height)
    tiny = (Issue("tiny", extent),) if short < TINY else ()
    return (*tiny, Issue("elongated", f"{extent}, squeezed to a square")) if long >= ELONGATED * short else tiny


def pixel_issues(pixels: Pixels) -> tuple[Issue, ...]:
    """Return an issue where an image is of one color, or nearly black."""
    lowest, highest = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    if (highest - lowest).max() <= CONSTANT:
        return (Issue("constant", f"all pixels are about {tuple(map(int, highest))}"),)
    brightest = int(highest.max())
    return (Issue("dark", f"the brightest pixel is {brightest} of 255"),) if brightest < DARK else ()


def mark_mask(sample: DecodedSample, previous: str) -> DecodedSample:
    """Add an issue to an image of two colors that has a mask's name, or the name of the image before it."""
    if sample.pixels is None or not (MASK.search(sample.path) or _same_stem(sample.path, previous)):
        return sample
    if not is_two_tone(sample.pixels):
        return sample
    return sample._replace(issues=(*sample.issues, Issue("mask", "two colors, and named like a mask of an image")))


def is_two_tone(pixels: Pixels) -> bool:
    """Return whether nearly all pixels have one of two gray values far from each other; resizing blurs their edges."""
    gray = pixels.max(axis=2).astype(int)
    if (gray - pixels.min(axis=2)).max() > CONSTANT or gray.max() - gray.min() < DARK:
        return False
    return bool(((gray - gray.min() <= CONSTANT) | (gray.max() - gray <= CONSTANT)).mean() >= TWO_TONE)


def _same_stem(path: str, previous: str) -> bool:
    """Return whether two files differ in their extensions alone; rows of one table have no name of their own."""
    return has_image_suffix(path) and os.path.splitext(path)[0] == os.path.splitext(previous)[0]


def mark_duplicate(sample: DecodedSample, first_paths: FirstPaths) -> DecodedSample:
    """Add an issue to a sample with the bytes of an earlier one; `first_paths` are of those before, and grow."""
    first = remember(sample, first_paths)
    if first == sample.path:
        return sample
    return sample._replace(issues=(*sample.issues, Issue("duplicate", f"the same bytes as {printable(first)}")))


def remember(sample: DecodedSample, first_paths: FirstPaths) -> str:
    """Return the path of the first readable sample with these bytes, which may be this one."""
    return first_paths.first(sample.digest, sample.path) if sample.digest and sample.used(()) else sample.path


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings of broken metadata and of images near its size limit, which are read all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
