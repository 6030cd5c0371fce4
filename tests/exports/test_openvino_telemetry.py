"""OpenVINO sends usage data when it is imported, unless its package for that cannot be found."""

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
