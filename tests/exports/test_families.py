"""A network of every family of timm, in miniature, is the same network as a timm export, cut and whole.

`python -m benchmarks.exports families` does the same for PyTorch and ONNX, which takes minutes; BENCHMARKS.md has it.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limbeck.exports import export
from limbeck.metrics.cost import Latency
from limbeck.models.encoder_io import load
from limbeck.models.pretrained import stock_form
from tests.helpers.families import FAMILIES, random_encoder


def untimed(networks: Sequence[object], image: Tensor, *, threads: int = 1) -> list[Latency]:
    return [Latency(1.0, 1.0) for _ in networks]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "EfficientNet-Lite"])  # one is enough
@torch.no_grad()
def test_every_family_is_exported_at_two_depths(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.exports.write.latencies", untimed)
    name, args = FAMILIES[family]
    depth = random_encoder(stock_form(name, 32, args), tmp_path / "encoder", batches=1)
    backbone, images = load(tmp_path / "encoder").eval(), torch.randn(2, 3, 32, 32)
    expected = backbone(images, backbone.taps).taps
    for cut in {max(1, depth // 2), depth}:
        export(tmp_path / "encoder", tmp_path / str(cut), cut)  # compares what timm opens with the network
        torch.testing.assert_close(load(tmp_path / str(cut)).eval()(images).final, expected[cut], rtol=1e-4, atol=1e-4)
