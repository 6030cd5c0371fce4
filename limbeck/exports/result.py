"""Result of an export: files, and how they compare with the network in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limbeck.core.text import format_bytes
from limbeck.exports.proof import Proof

Format = Literal["timm", "onnx", "torch", "executorch"]
Precision = Literal["fp32", "fp16", "int8"]
Rotation = Literal["none", "pca", "half-whitening"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The features that an aligned export computes: a digest and a depth, as an index of images records them."""

    digest: str
    depth: int


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """Files of an export, and how they compare with the network in memory.

    Latencies are those of one image on this machine's CPU, in milliseconds: the networks take turns.
    """

    path: Path
    format: Format
    precision: Precision
    depth: int
    dim: int
    difference: float  # largest absolute difference of a feature: in fp32 over random batches, else over real images
    proof: Proof | None  # the comparison on real images, where there are some
    float_layers: tuple[str, ...]  # layers that are in float32 in an int8 file because they would lose most
    recalls: Mapping[int, float]  # of aligned or rotated features, the recall@10 of the first so many of them
    rotation: Rotation
    aligned_to: Target | None  # the features that they can be compared with
    file_bytes: int
    latency_ms: float  # with one thread, the minimum of repeated calls
    latency_median_ms: float  # with one thread, their median
    latency_all_threads_ms: float  # with all threads, the minimum
    torch_latency_ms: float  # of the network in memory with one thread, the minimum
    fp32_latency_ms: float | None  # of the same file in fp32 with one thread, the minimum, if this one is in another
    openvino_latency_ms: float | None  # of an ONNX file in OpenVINO with one thread, the minimum, where it is installed
    nouns: tuple[str, str] = ("image", "images")  # what one row of the data is called, and several

    def sentences(self) -> list[str]:
        """Describe the files, how they compare and, of a reduced precision, whether it pays."""
        found = [
            f"depth {self.depth}, {self.dim} features, {format_bytes(self.file_bytes)}; largest difference from "
            f"PyTorch {self.difference:.1e}; {self.latency_ms:.2f} ms per {self.nouns[0]} on one thread of this CPU "
            f"(PyTorch {self.torch_latency_ms:.2f} ms{self._openvino()}), {self.latency_all_threads_ms:.2f} ms on all"
        ]
        if self.proof is not None:
            found.append(self.proof.sentence(self.nouns[1]))
        if self.aligned_to is not None:
            recall = self.recalls[self.dim]
            found.append(f"aligned with depth {self.aligned_to.depth}: {recall:.1%} of its 10 nearest images are found")
        elif self.recalls:
            counts = ", ".join(f"{count} {recall:.1%}" for count, recall in self.recalls.items())
            found.append(f"of the 10 nearest images by all features, the first so many rotated ones find: {counts}")
        if self.float_layers:
            found.append(f"in float32: {', '.join(self.float_layers)}")
        if self.fp32_latency_ms is not None:
            faster = self.fp32_latency_ms / self.latency_ms
            pays = "" if faster > 1 else ": this precision saves space here, and no time"
            found.append(f"{faster:.2f} times as fast as fp32 ({self.fp32_latency_ms:.2f} ms){pays}")
        return found

    def _openvino(self) -> str:
        return "" if self.openvino_latency_ms is None else f", OpenVINO {self.openvino_latency_ms:.2f} ms"
