"""What OpenVINO does to the process that imports it: it would send usage data, and break its signals."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

CODE = """
import io, signal, sys, threading
import torch
from limbeck.exports.openvino import open_openvino

file = io.BytesIO()
torch.onnx.export(torch.nn.ReLU(), (torch.ones(1, 3),), file, dynamo=False)
networks = [open_openvino(file.getvalue())]
networks[0](torch.ones(1, 3))
print(*(name for name in ("openvino", "openvino_telemetry") if sys.modules.get(name) is not None))
thread = threading.Thread(target=networks.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.fixture(scope="module")
def ended() -> subprocess.CompletedProcess[str]:
    """Return a process that ran a network, ended it in another thread, and got a signal."""
    return subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], stdout=subprocess.PIPE, text=True)


def test_openvino_is_used_without_its_telemetry(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.stdout.split() == ["openvino"]


def test_signals_are_handled_after_a_network_ended_in_another_thread(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 3
