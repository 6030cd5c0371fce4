"""Files in OpenVINO, for their latency beside that in ONNX Runtime."""

import logging
from importlib.util import find_spec
from pathlib import Path

import torch

from limbeck.exports.networks import Network

logger = logging.getLogger(__name__)

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
"""The precision is that of the README of an export: without it OpenVINO computes in bf16 on some CPUs."""


def open_openvino(path: Path) -> Network | None:
    """Return the network of an ONNX file in OpenVINO, on the CPU with one thread.

    None where OpenVINO is not installed, or takes no such file: a warning then says which operator it lacks.
    """
    if find_spec("openvino") is None:
        return None
    import openvino

    try:
        model = openvino.compile_model(str(path), "CPU", SETTINGS)
    except RuntimeError as error:
        summary = " ".join(str(error).rpartition("Summary:")[2].split())  # names the operators
        logger.warning("OpenVINO does not take this file: %s", f"{summary:.300}")
        return None
    return lambda batch: torch.from_numpy(model(batch.numpy())[0])
