"""Files for ONNX Runtime: written from a network, and read again."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.exports.networks import Network, free_axes
from limbeck.exports.refusal import not_exportable

LAYERS = ("Conv", "MatMul", "Gemm")  # with weights: what is quantized


def write_onnx(
    model: nn.Module,
    images: Tensor,
    path: Path,
    outputs: Sequence[str] = ("features",),
    free: Sequence[str] = ("batch",),
    name: str = "images",
) -> dict[str, str]:
    """Write a network with an input `name` whose first axes, as many as `free` has names, may have any size.

    Returns:
        The module of every node that has weights.
    """
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    try:
        with quiet():
            program = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                verbose=False,
                input_names=[name],
                output_names=outputs,
                dynamic_shapes=(free_axes(free),),
            )
    except torch.onnx.OnnxExporterError as error:
        raise not_exportable("written as ONNX", error, "choose format torch") from error
    assert program is not None, "without a path and with dynamo torch returns the program"
    layers = {}
    for node in program.model.graph.all_nodes():
        if node.op_type in LAYERS and (module := _module_of(node)):
            layers[node.name or ""] = module
        node.metadata_props.clear()  # stack traces, with paths of this machine
    program.save(path, external_data=parameters > 1.8e9)  # protobuf holds 2 GB
    return layers


def _module_of(node: Any) -> str:
    """Return the name of the module whose weights a node has; "" for products of activations.

    The weights of a convolution still have its name; those of a Linear layer were transposed into a new constant.
    """
    weights = [value.name for value in node.inputs if value.name and value.name.endswith(".weight")]
    if weights:
        return str(weights[0].removesuffix(".weight"))
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
    names = [part.strip(" '\"[]") for part in scopes.split(",")]
    constant = any(value.const_value is not None for value in node.inputs)
    return names[-2] if constant and len(names) > 1 else ""


def open_onnx(path: Path, threads: int = 1) -> Network:
    """Return the network of a file, on the CPU with so many threads."""
    session = open_session(path, threads)
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.numpy()})[0])


def open_session(model: Path | bytes, threads: int) -> Any:
    """Return a session of ONNX Runtime on the CPU, for a file or its content.

    Raises:
        UserError: ONNX Runtime lacks an operator, or does not take the file for another reason.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise not_exportable("run by ONNX Runtime", error, "choose another precision, or format torch") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what the tools of torch, ONNX and its Runtime print through loggers and as warnings.

    A logger without a handler would get one from the first message, and print those of Limbeck a second time.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    disabled = root.manager.disable
    logging.disable(logging.WARNING)  # also of loggers with a handler of their own, as torch's
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(handler)
        logging.disable(disabled)
