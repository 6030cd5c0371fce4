"""Reduce the precision of an ONNX file: float16, or 8 bits with the ranges that activations have on images."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from limbeck.exports.onnx_file import LAYERS, open_session, quiet
from limbeck.exports.proof import ExampleBatch

BETWEEN = ("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")  # of a CNN, so that it stays in 8 bits
CLIPPING = ("Relu", "Clip")
IN_FLOAT32 = ("LayerNormalization", "InstanceNormalization")  # the square of an activation may exceed 65,504
PERCENTILE = 0.99999  # of the values of a tensor, in the mean over batches: larger ones are clipped
SAMPLE = 2**18  # values of a tensor in a batch that its percentile is taken of


def to_fp16(source: Path, target: Path) -> None:
    """Write the file `source` with weights and arithmetic in float16; input, output and norms stay in float32."""
    import onnx
    from onnxruntime.transformers import float16

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *IN_FLOAT32]
    with quiet():
        onnx.save(
            float16.convert_float_to_float16(onnx.load(str(source)), keep_io_types=True, op_block_list=blocked),
            str(target),
        )


def to_int8(source: Path, target: Path, ranges: Mapping[str, tuple[float, float]], nodes: Collection[str]) -> None:
    """Write the file `source` with the weights and inputs of `nodes` in 8 bits: static QDQ, per channel of the weights.

    Args:
        source: a file in fp32.
        target: the new file.
        ranges: the lowest and the highest value of every activation, from `activation_ranges`.
        nodes: names of the nodes with weights that are quantized.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    graph = onnx.load(str(source)).graph
    has_norms = any(node.op_type in IN_FLOAT32 for node in graph.node)
    all_layers = {node.name for node in graph.node if node.op_type in LAYERS} == {*nodes}
    kinds = () if has_norms else BETWEEN if all_layers else CLIPPING  # sums between layers in float32 stay in it
    between = [node.name for node in graph.node if node.op_type in kinds]
    overrides = {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()}
    with quiet():
        quantize_static(
            str(source),
            str(target),
            _OneImage(source),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*LAYERS, *BETWEEN],
            nodes_to_quantize=[*nodes, *between],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "TensorQuantOverrides": overrides,
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            },
        )


def with_readers(source: Path, in_float: Collection[str]) -> set[str]:
    """Return the names of some nodes with weights, and of the nodes with weights that read what they compute.

    The latter have to stay in float32, too: a convolution in float32 between two in 8 bits is quantized by ONNX Runtime
    when it opens the file, with one scale for all channels (its transformer WeightBiasQuantization).
    """
    import onnx

    found, computed = {*in_float}, set[str]()
    for node in onnx.load(str(source)).graph.node:  # in the order of computation
        if node.name in in_float:
            computed |= {*node.output}
        elif computed & {*node.input}:
            if node.op_type in LAYERS:
                found.add(node.name)
            else:
                computed |= {*node.output}
    return found


def activation_ranges(source: Path, batches: Sequence[ExampleBatch]) -> dict[str, tuple[float, float]]:
    """Return the percentiles of every float tensor that a layer reads or a CNN hands on, as the mean over batches.

    A tensor that only an activation such as ReLU reads has the range of what that hands on: the rest is clipped anyway.
    """
    import onnx

    model = onnx.load(str(source))
    constants = {value.name for value in model.graph.initializer}
    touched = {
        name
        for node in model.graph.node
        if node.op_type in (*LAYERS, *BETWEEN)
        for name in (*node.input, *node.output)
        if name and name not in constants
    }
    names = sorted(touched - {"images"})
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = open_session(model.SerializeToString(), os.cpu_count() or 1)
    found = []
    for images, _ in batches:
        values = [*session.run(names, {"images": images.numpy()}), images.numpy()]
        found.append([_percentiles(value) for value in values])
    ranges = dict(zip([*names, "images"], (tuple(pair) for pair in np.mean(found, axis=0).tolist()), strict=True))
    readers = Counter(name for node in model.graph.node for name in node.input)
    clipped = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type in CLIPPING}
    return ranges | {name: ranges[after] for name, after in clipped.items() if readers[name] == 1}


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    flat = values.astype(np.float32).ravel()
    low, high = np.quantile(flat[:: max(1, len(flat) // SAMPLE)], [1 - PERCENTILE, PERCENTILE])
    return min(float(low), 0.0), max(float(high), 0.0)


class _OneImage:
    """A reader for the calibration of ONNX Runtime, of which nothing is used: all ranges are given."""

    def __init__(self, path: Path) -> None:
        (given,) = open_session(path, 1).get_inputs()
        kind = np.uint8 if "uint8" in given.type else np.float32
        self._feeds = iter([{"images": np.zeros([1, *given.shape[1:]], kind)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the image once, then None."""
        return next(self._feeds, None)
