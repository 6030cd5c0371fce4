"""Write a network as it is, in fp32, and prove the file: encoders of series and detectors of keypoints."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from limbeck.core.config import Json, to_json
from limbeck.core.files import read_json
from limbeck.core.portable_paths import without_absolute_paths
from limbeck.core.run_folder import ENCODER
from limbeck.core.types import Encoder
from limbeck.exports.networks import Network, write_torch
from limbeck.exports.onnx_file import open_onnx, write_onnx
from limbeck.exports.proof import Proof, prove
from limbeck.exports.result import ExportResult, Format
from limbeck.metrics.cost import Latency, latencies
from limbeck.modalities.base import write_encoder
from limbeck.models.encoder_io import encoder_folder

TOLERANCE = 1e-4  # largest difference that a file may have, relative to the largest feature (at least 1)
PART = 64  # rows of the proof that are computed at a time
README, MODEL = "README.md", "model.onnx"


class PlainNetwork(NamedTuple):
    """A trained network and the names of what it takes and returns."""

    encoder: Encoder
    modality: str
    network: nn.Module  # from a batch to features [B D], in evaluation mode
    batches: Sequence[Tensor]  # random ones, on which the file is compared; the second one is traced
    free: tuple[str, ...]  # the first axes of a batch, which may have any size
    names: tuple[str, str]  # of the input and of the output
    nouns: tuple[str, str]  # what one row of the data is called, and several


def write_plain(
    plain: PlainNetwork,
    run: Path,
    out: Path,
    format: Format,
    examples: tuple[Tensor, Tensor] | None,
    about: Mapping[str, Json],
    folder: Path,
) -> ExportResult:
    """Write the file of a network, model.json and the network for Limbeck into `folder`; a README is missing.

    Args:
        plain, run: the network, and where it is from.
        out: where the folder will be.
        format: "onnx" or "torch".
        examples: real rows and their labels, for the proof; None: none.
        about: what model.json says besides the result, in `folder`.

    Raises:
        RuntimeError: the file gives other features than the network.
    """
    network, batches, path = plain.network, plain.batches, folder / MODEL
    if format == "onnx":
        write_onnx(network, batches[1], path, plain.names[1:], plain.free, plain.names[0])
    exported = open_onnx(path) if format == "onnx" else write_torch(network, batches[1], folder, plain.free)
    difference = largest_difference(network, exported, batches)
    own, here, every = _times(plain, exported, folder, examples)
    result = ExportResult(
        path=out,
        format=format,
        precision="fp32",
        depth=plain.encoder.taps[-1],
        dim=plain.encoder.dim,
        difference=difference,
        proof=_proof(network, exported, examples),
        float_layers=(),
        recalls={},
        rotation="none",
        aligned_to=None,
        file_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        latency_ms=own.min_ms,
        latency_median_ms=own.median_ms,
        latency_all_threads_ms=every.min_ms,
        torch_latency_ms=here.min_ms,
        fp32_latency_ms=None,
        openvino_latency_ms=None,
        nouns=plain.nouns,
    )
    _describe(plain, run, {**vars(result), **about}, folder)
    return result


def _times(
    plain: PlainNetwork, exported: Network, folder: Path, examples: tuple[Tensor, Tensor] | None
) -> tuple[Latency, Latency, Latency]:
    """Return the latencies of a file and of the network with one thread, and of the file with all."""
    one = plain.batches[0] if examples is None else examples[0][:1]
    own, here = latencies([exported, plain.network], one)
    threads, path = os.cpu_count() or 1, folder / MODEL
    (every,) = latencies([open_onnx(path, threads) if path.is_file() else exported], one, threads=threads)
    return own, here, every


def _describe(plain: PlainNetwork, run: Path, about: Mapping[str, Any], folder: Path) -> None:
    """Write model.json, with `about` and the provenance of the network, and the network for Limbeck."""
    found = read_json(encoder_folder(run) / "config.json")["limbeck"]["provenance"]
    content = {name: value for name, value in about.items() if name != "path"}
    content |= {"encoder": to_json(plain.encoder.cfg), "provenance": without_absolute_paths(found)}
    write_encoder(plain.encoder, folder / ENCODER, plain.modality, without_absolute_paths(found))
    (folder / "model.json").write_text(json.dumps(to_json(content), indent=2) + "\n", encoding="utf-8")


def largest_difference(network: nn.Module, exported: Network, batches: Sequence[Tensor]) -> float:
    """Return the largest absolute difference of a feature; raise RuntimeError when that is more than rounding."""
    pairs = [(network(batch), exported(batch)) for batch in batches]
    difference = max((expected - found).abs().max().item() for expected, found in pairs)
    scale = max(1.0, *(expected.abs().max().item() for expected, _ in pairs))
    if not difference <= TOLERANCE * scale:  # also when one of them is not a number
        raise RuntimeError(f"the exported file differs from the network by {difference:.1e} and was removed")
    return difference


def _proof(network: nn.Module, exported: Network, examples: tuple[Tensor, Tensor] | None) -> Proof | None:
    """Compare the file with the network on real rows, if there are some."""
    if examples is None:
        return None
    values, labels = examples
    parts = values.split(PART)
    found, expected = (torch.cat([function(part) for part in parts]) for function in (exported, network))
    return prove(found, expected, labels)
