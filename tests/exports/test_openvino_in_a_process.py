"""What OpenVINO does to the process that imports it: it would send usage data, and break its signals."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")


def test_openvino_is_used_without_its_telemetry() -> None:
    code = (
        "import sys; from limbeck.exports.openvino import open_openvino; open_openvino(b'no model'); "
        "assert 'openvino' in sys.modules; sys.exit(sys.modules.get('openvino_telemetry') is not None)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


SIGNAL = """
import io, signal, sys, threading
import torch
from limbeck.exports.openvino import open_openvino

file = io.BytesIO()
torch.onnx.export(torch.nn.ReLU(), (torch.ones(1, 3),), file, dynamo=False)
networks = [open_openvino(file.getvalue())]
networks[0](torch.ones(1, 3))
thread = threading.Thread(target=networks.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
signal.raise_signal(signal.SIGTERM)
"""


def test_signals_are_handled_after_a_network_ended_in_another_thread() -> None:
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", SIGNAL]).returncode == 3
