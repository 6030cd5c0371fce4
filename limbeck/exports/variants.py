"""Variants of an export: a depth, an input size and a precision, with what they cost and keep; and which to choose."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from limbeck.core.errors import UserError
from limbeck.core.text import format_bytes
from limbeck.exports.result import Precision

_LATENCY = re.compile(r"(\d+\.?\d*|\.\d+)(ms|s)")
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+)(KB|MB|GB)", re.IGNORECASE)
_MILLISECONDS = {"ms": 1.0, "s": 1e3}
_BYTES = {"KB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An ONNX file that a network can be exported as.

    Latencies are those of one image on one thread of this machine's CPU, in milliseconds: in ONNX Runtime, by which a
    variant is chosen, and in OpenVINO.
    """

    depth: int  # blocks or stages
    image_size: int  # side of the input, pixels
    precision: Precision
    dim: int
    file_bytes: int
    latency_ms: float  # the minimum of repeated calls
    latency_median_ms: float
    openvino_latency_ms: float | None  # the minimum
    openvino_missing: str  # why there is none; empty where there is one
    neighbors: float  # share of the 10 nearest images that are those of the whole network in fp32 at its own size
    knn: float | None  # 20-NN accuracy of one half of the images in the other; None without labels

    @property
    def name(self) -> str:
        """Description such as "depth 3, 32 pixels, int8"."""
        return f"depth {self.depth}, {self.image_size} pixels, {self.precision}"

    def sentence(self) -> str:
        """Describe the variant, its cost and what it preserves."""
        labels = "" if self.knn is None else f", 20-NN accuracy {self.knn:.1%}"
        return (
            f"{self.name}: {self.latency_ms:.2f} ms, {format_bytes(self.file_bytes)}, {self.neighbors:.1%} of the 10 "
            f"nearest neighbors{labels}"
        )

    def dominates(self, other: "Variant") -> bool:
        """Return whether it is nowhere worse than `other`, and better in latency, size or neighbors kept."""
        own, others = ((v.latency_ms, v.file_bytes, -v.neighbors) for v in (self, other))
        return own != others and all(a <= b for a, b in zip(own, others, strict=True))


class Survey(NamedTuple):
    """All variants of a network, on real images."""

    variants: list[Variant]
    whole: Variant  # of all layers, in fp32 and at the input size of the training
    images: int  # on which the neighbors are compared


class Limits(NamedTuple):
    """Limits on the cost of an export."""

    latency_ms: float = float("inf")
    file_bytes: float = float("inf")

    def hold(self, variant: Variant) -> bool:
        """Return whether a variant is within them."""
        return self.excess(variant) <= 1

    def excess(self, variant: Variant) -> float:
        """Return the cost of a variant relative to the limits, of latency and size the larger."""
        return max(variant.latency_ms / self.latency_ms, variant.file_bytes / self.file_bytes)

    def __str__(self) -> str:
        parts = []
        if self.latency_ms < float("inf"):
            parts.append(f"{self.latency_ms:g} ms")
        if self.file_bytes < float("inf"):
            parts.append(format_bytes(self.file_bytes))
        return " and ".join(parts)


def parse_limits(latency: str | None, size: str | None) -> Limits:
    """Return the limits for texts such as "5ms" and "3MB" (units of 1000 bytes); None is no limit.

    Raises:
        UserError: a text is no latency or no size.
    """
    return Limits(
        _parse(latency, _LATENCY, _MILLISECONDS, "a latency: give milliseconds, such as 5ms", "bad-latency"),
        _parse(size, _SIZE, _BYTES, "the size of a file: give KB or MB, such as 900KB or 3MB", "bad-size"),
    )


def _parse(text: str | None, form: re.Pattern[str], units: dict[str, float], what: str, code: str) -> float:
    if text is None:
        return float("inf")
    found = form.fullmatch(text.replace(" ", ""))
    value = (
        float(found[1]) * next(factor for unit, factor in units.items() if unit.lower() == found[2].lower())
        if found
        else 0
    )
    if not value:
        raise UserError(f"'{text}' is not {what}", code=code)
    return value


def pareto_front(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants that no other one dominates, fastest first."""
    front = [v for v in variants if not any(other.dominates(v) for other in variants)]
    return sorted(front, key=lambda v: v.latency_ms)


def choose(variants: Sequence[Variant], limits: Limits) -> Variant:
    """Return the variant within the limits that keeps most neighbors; of equal ones the fastest.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    fitting = [variant for variant in variants if limits.hold(variant)]
    if not fitting:
        nearest = min(variants, key=limits.excess)
        raise UserError(
            f"no export of this network is within {limits}; the nearest is {nearest.sentence()}: allow as much, or "
            "train a smaller network",
            code="no-variant-fits",
        )
    return max(fitting, key=lambda v: (v.neighbors, -v.latency_ms))
