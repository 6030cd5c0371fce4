"""Reduce the precision of an ONNX file, and refuse what loses too many neighbors."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from limbeck.core.errors import UserError
from limbeck.exports.examples import Examples
from limbeck.exports.networks import Network
from limbeck.exports.onnx_file import open_onnx
from limbeck.exports.proof import Proof, features_of, prove
from limbeck.exports.quantize import activation_ranges, to_fp16, to_int8, with_readers
from limbeck.exports.result import Precision
from limbeck.exports.sensitivity import sensitivities

KEEP: dict[Precision, float] = {"fp16": 0.99, "int8": 0.97}
"""Share of the 10 nearest neighbors that a file must keep unless another is asked for."""
NAMED = 5  # layers in the message about a file that is refused
PROBED = 2  # batches of calibration images on which the layers are compared


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """A precision, and what it has to keep."""

    precision: Precision
    keep: float  # share of the 10 nearest neighbors, or of the classes of a classifier
    mixed: bool  # keep layers in float32 where that is needed


class _Trial:
    """One file after another, of the same network in less and less reduced precision."""

    def __init__(self, path: Path, network: nn.Module, examples: Examples, logits: bool) -> None:
        self.path, self.network, self.examples, self.logits = path, network, examples, logits
        self.target = path.with_name("reduced.onnx")
        self.expected = features_of(network, examples.proof)
        self.labels = torch.cat([labels for _, labels in examples.proof])

    def prove(self) -> tuple[Network, Proof]:
        """Return the network of the file at `target`, and how it compares."""
        exported = open_onnx(self.target)
        return exported, prove(
            features_of(exported, self.examples.proof), self.expected, self.labels, logits=self.logits
        )


def reduce(
    path: Path,
    layers: Mapping[str, str],
    network: nn.Module,
    examples: Examples,
    how: Reduction,
    *,
    logits: bool = False,
) -> tuple[Network, Proof, tuple[str, ...]]:
    """Replace a file in fp32 by one in reduced precision; return its network, its proof, and the layers in float32.

    Args:
        path: the file.
        layers: the module of every node that has weights.
        network: the network of the file, in memory.
        examples: images for calibration and proof.
        how: the precision.
        logits: whether the network is a classifier, which has to keep its classes and not the neighbors.

    Raises:
        UserError: it keeps too few neighbors, or classes.
    """
    trial = _Trial(path, network, examples, logits)
    if how.precision == "fp16":
        to_fp16(path, trial.target)
        exported, proof, in_float, worst = *trial.prove(), tuple[str, ...](), list[str]()
    else:
        exported, proof, in_float, worst = _quantize(trial, layers, how)
    if not proof.fidelity >= how.keep:  # also where features are not numbers
        raise _too_few(proof, how, worst)
    os.replace(trial.target, path)
    return exported, proof, in_float


def _quantize(
    trial: _Trial, layers: Mapping[str, str], how: Reduction
) -> tuple[Network, Proof, tuple[str, ...], list[str]]:
    """Quantize all layers and, where that loses too much and it is wanted, fewer and fewer."""
    ranges = activation_ranges(trial.path, trial.examples.calibration)
    worst, in_float = list[str](), list[str]()
    for number in _numbers_in_float(len({*layers.values()})):
        nodes = with_readers(trial.path, [node for node, layer in layers.items() if layer in worst[:number]])
        in_float = [layer for node, layer in layers.items() if node in nodes]
        to_int8(trial.path, trial.target, ranges, [node for node in layers if node not in nodes])
        exported, proof = trial.prove()
        if proof.fidelity >= how.keep:
            break
        worst = worst or [*sensitivities(trial.network, trial.examples.calibration[:PROBED])]
        if not how.mixed:
            break
    return exported, proof, tuple(in_float), worst


def _numbers_in_float(layers: int) -> Iterator[int]:
    """Yield 0, 1, 2, 4 ... layers that stay in float32, fewer than all."""
    yield 0
    number = 1
    while number < layers:
        yield number
        number *= 2


def _too_few(proof: Proof, how: Reduction, worst: list[str]) -> UserError:
    what = "the 10 nearest neighbors" if proof.same_class is None else "the classes"
    found = f"{how.precision} keeps {proof.fidelity:.1%} of {what} of {proof.images} images"
    names = ", ".join(worst[:NAMED])
    lose = f"; most is lost in {names}" if names else ""
    way = "accept less with --keep" if how.mixed or not worst else "keep such layers in float32 with --mixed"
    return UserError(f"{found}, and --keep asks for {how.keep:.1%}{lose}: {way}", code="too-few-neighbors-kept")
