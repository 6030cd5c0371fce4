"""Programs for ExecuTorch, PyTorch's runtime for phones and boards: written for XNNPACK, and read again."""

from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.exports.networks import Network
from limbeck.exports.onnx_file import quiet
from limbeck.exports.refusal import not_exportable

PROGRAM = "model.pte"


def write_executorch(model: nn.Module, image: Tensor, folder: Path) -> Network:
    """Write model.pte, which takes one image as `image` [1 ...], and return the network that is read from it.

    The batch is one image because ExecuTorch reserves the memory of the largest batch that a program may get.

    Raises:
        UserError: ExecuTorch lacks an operator of the network.
    """
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            program = torch.export.export(model, (image,))
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:  # its passes raise errors of their own
            raise not_exportable("written for ExecuTorch", error, "choose format onnx") from error
    (folder / PROGRAM).write_bytes(lowered.buffer)
    return open_executorch(folder / PROGRAM)


def open_executorch(path: Path, threads: int = 1) -> Network:
    """Return the network of a program, on the CPU; all programs of the process then have so many threads."""
    with quiet():  # importing it warns that it is experimental
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
        from executorch.runtime import Runtime

    _unsafe_reset_threadpool(threads)  # the only way to set it from Python; unsafe while a program runs
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")
    return lambda batch: torch.cat([method.execute([image])[0].clone() for image in batch.split(1)])
