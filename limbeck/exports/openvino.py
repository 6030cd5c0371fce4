"""Files in OpenVINO, for their latency beside that in ONNX Runtime."""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from limbeck.exports.networks import Network

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
"""The precision is that of the README of an export: without it OpenVINO computes in bf16 on some CPUs."""
NOT_INSTALLED = "OpenVINO is not installed: pip install 'limbeck[openvino]'"


def open_openvino(model: Path | bytes) -> Network | str:
    """Return the network of an ONNX file, or of its content, in OpenVINO, on the CPU with one thread.

    Where there is none, return why: OpenVINO is not installed, or lacks an operator, which is named.
    """
    if find_spec("openvino") is None:
        return NOT_INSTALLED
    core = _core()
    try:
        compiled = core.compile_model(
            core.read_model(model if isinstance(model, bytes) else str(model)), "CPU", SETTINGS
        )
    except RuntimeError as error:
        summary = " ".join(str(error).rpartition("Summary:")[2].split())  # names the operators
        return f"OpenVINO does not take this file: {summary:.300}"
    return lambda batch: torch.from_numpy(compiled(batch.numpy())[0])


@cache
def _core() -> Any:
    """Return the one `openvino.Core` of the process, which keeps its plugins.

    The plugin of CPUs gives the thread that loads it another stack for signals. Where the last use of the plugin ends
    in another thread, that stack is freed but stays in place, and the next signal, such as Ctrl-C, ends the process.
    """
    _turn_telemetry_off()
    import openvino

    return openvino.Core()


def _turn_telemetry_off() -> None:
    """Let OpenVINO find no `openvino_telemetry`, which sends usage data: it then takes a stub of its own."""
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
