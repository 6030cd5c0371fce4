"""ONNX files in fp16 and int8: what is in them, what they keep, and what is refused."""

import json
import logging
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.exports import Proof, export
from limbeck.exports.examples import CALIBRATION, QUICK_PROOF, split_examples
from limbeck.exports.onnx_file import open_onnx, write_onnx
from limbeck.exports.proof import features_of, prove
from limbeck.exports.quantize import CLIPPING, PERCENTILE, activation_ranges, to_fp16, to_int8, with_readers
from limbeck.exports.reduced import Reduction, reduce
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, load, save_encoder
from tests.helpers.commands import Run
from tests.helpers.errors import raises

HALF = (0.5, 0.5, 0.5)
HOW = Preprocessing(image_size=16, store_size=16, mean=HALF, std=HALF)
CNN = BackboneConfig(name="resnet18", image_size=16, args={"channels": [8, 8, 12, 12], "layers": [1, 1, 1, 1]})


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """200 digits in RGB, 16 pixels squared."""
    images, _ = digits()
    small = images[::25, 6:22, 6:22]
    return np.ascontiguousarray(np.repeat(small[..., None], 3, axis=3))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random CNN with the BatchNorm statistics of noise."""
    torch.manual_seed(0)
    backbone = build_backbone(CNN)
    for _ in range(20):
        backbone(torch.randn(32, 3, 16, 16))
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(backbone.eval(), folder, HOW, {"method": "simclr"})
    return folder


@pytest.fixture(scope="module")
def fp32(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the file of that network in fp32, and its layers."""
    path = tmp_path_factory.mktemp("fp32") / "model.onnx"
    with torch.no_grad():
        return path, write_onnx(load(encoder).eval().model, torch.randn(2, 3, 16, 16), path)


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node}


def session_features(path: Path, images: NDArray[Any]) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images})[0])


def test_int8_is_smaller_and_its_proof_is_what_a_stranger_measures(
    encoder: Path, fp32: tuple[Path, dict[str, str]], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    result = export(encoder, out, format="onnx", precision="int8", images=pixels, keep=0.5, fold_preprocessing=True)
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(out / "model.onnx")
    constants = onnx.load(str(out / "model.onnx")).graph.initializer
    weights = [value for value in constants if len(value.dims) == 4 and value.data_type == onnx.TensorProto.INT8]
    assert len(weights) == len(fp32[1])
    assert max(np.prod(value.dims) for value in constants if value.data_type == onnx.TensorProto.FLOAT) < 100
    proof = result.proof
    assert proof is not None
    store = Store.from_arrays(pixels)
    batches = split_examples(store, HOW, fold=True).proof
    shown = torch.cat([images for images, _ in batches])
    assert (shown.dtype, shown.shape[1:], proof.images) == (torch.uint8, (16, 16, 3), len(shown))
    normalized = torch.cat([images for images, _ in split_examples(store, HOW, fold=False).proof])
    with torch.no_grad():
        expected = load(encoder).eval()(normalized).final
    again = prove(session_features(out / "model.onnx", shown.numpy()), expected, torch.full([len(shown)], -1))
    assert again.neighbors == pytest.approx(proof.neighbors, abs=0.01)
    assert again.cosine == pytest.approx(proof.cosine, abs=1e-3)
    assert 3 * proof.chance < 0.8 < proof.neighbors <= 1
    told = json.loads((out / "model.json").read_text())
    assert (told["precision"], told["proof"]["neighbors"]) == ("int8", proof.neighbors)
    assert "int8" in (out / "README.md").read_text(encoding="utf-8")


def reduced(
    encoder: Path, fp32: tuple[Path, dict[str, str]], pixels: NDArray[np.uint8], folder: Path, how: Reduction
) -> tuple[Proof, tuple[str, ...]]:
    """Reduce a copy of the file in fp32; return the proof and the layers in float32."""
    copy = Path(shutil.copy(fp32[0], folder / "model.onnx"))
    shown = split_examples(Store.from_arrays(pixels), HOW, fold=False)
    return reduce(copy, fp32[1], load(encoder).eval().model, shown, how)[1:]


def test_what_loses_too_much_is_refused_with_the_layers_that_lose_it(
    encoder: Path, fp32: tuple[Path, dict[str, str]], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    how = Reduction(precision="int8", keep=1.0, mixed=False)
    with raises("too-few-neighbors-kept", "100.0%", "--mixed", "layer1.0."):
        reduced(encoder, fp32, pixels, tmp_path, how)


def test_mixed_keeps_as_many_layers_in_float_as_it_takes(
    encoder: Path, fp32: tuple[Path, dict[str, str]], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    plain, none = reduced(encoder, fp32, pixels, tmp_path, Reduction(precision="int8", keep=0.5, mixed=True))
    keep = plain.neighbors + 0.01
    better, some = reduced(encoder, fp32, pixels, tmp_path, Reduction(precision="int8", keep=keep, mixed=True))
    assert none == ()
    assert better.neighbors >= keep
    assert 1 < len(some) < len(fp32[1])


def test_the_tools_that_quantize_print_nothing_and_leave_no_handler(
    fp32: tuple[Path, dict[str, str]], pixels: NDArray[np.uint8], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        batches = split_examples(Store.from_arrays(pixels), HOW, fold=False).calibration[:1]
        to_int8(fp32[0], tmp_path / "int8.onnx", activation_ranges(fp32[0], batches), [*fp32[1]])
        assert root.handlers == []
    finally:
        root.handlers = handlers
    assert capfd.readouterr() == ("", "")


def test_a_layer_stays_in_float_together_with_what_reads_it(fp32: tuple[Path, dict[str, str]]) -> None:
    path, layers = fp32
    nodes = {layer: node for node, layer in layers.items()}
    kept = with_readers(path, [nodes["layer1.0.conv1"]])
    assert {layers[node] for node in kept} == {"layer1.0.conv1", "layer1.0.conv2"}
    assert {layers[node] for node in with_readers(path, [nodes["layer1.0.conv2"]])} > {
        "layer1.0.conv2",
        "layer2.0.conv1",
    }


def test_every_layer_has_its_name(encoder: Path, fp32: tuple[Path, dict[str, str]]) -> None:
    network = load(encoder).model
    expected = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    assert sorted(fp32[1].values()) == sorted(expected)


def test_ranges_are_percentiles_of_what_the_network_computes(
    encoder: Path, fp32: tuple[Path, dict[str, str]], pixels: NDArray[np.uint8]
) -> None:
    path, layers = fp32
    batches = split_examples(Store.from_arrays(pixels), HOW, fold=False).calibration[:3]
    ranges = activation_ranges(path, batches)
    network, found = load(encoder).eval().model, list[Tensor]()
    network.layer1[0].act1.register_forward_hook(lambda *call: found.append(call[2]))
    with torch.no_grad():
        features_of(network, batches)
    high = np.mean([np.quantile(values.numpy(), PERCENTILE) for values in found])
    graph = onnx.load(str(path)).graph
    (conv,) = (node for node in graph.node if layers.get(node.name) == "layer1.0.conv1")
    (relu,) = (node for node in graph.node if conv.output[0] in node.input)
    assert relu.op_type in CLIPPING
    assert ranges[relu.output[0]] == pytest.approx((0, high), rel=1e-4)
    assert ranges[conv.output[0]] == ranges[relu.output[0]]
    assert ranges["images"][0] == pytest.approx(-1)


class Loud(nn.Module):
    """A network with activations that have no square in float16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(12, 32), nn.LayerNorm(32), nn.Linear(32, 8)
        nn.init.normal_(self.first.weight, std=400)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B 8] of images [B 3 2 2]."""
        features: Tensor = self.last(self.norm(self.first(images.flatten(1))))
        return features


@torch.no_grad()
def test_norms_of_fp16_are_computed_in_float32(tmp_path: Path) -> None:
    network, images = Loud().eval(), torch.randn(16, 3, 2, 2)
    assert network.first(images.flatten(1)).abs().max() > 65504**0.5
    write_onnx(network, images[:2], tmp_path / "a.onnx")
    to_fp16(tmp_path / "a.onnx", tmp_path / "b.onnx")
    found = open_onnx(tmp_path / "b.onnx")(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, network(images), rtol=0.01, atol=0.01)
    model = onnx.load(str(tmp_path / "b.onnx"))
    halves = [value.name for value in model.graph.initializer if value.data_type == onnx.TensorProto.FLOAT16]
    (norm,) = (node for node in model.graph.node if node.op_type == "LayerNormalization")
    assert len(halves) >= 2
    assert not {*norm.input} & {*halves}


def test_fp16_halves_a_file_of_a_run_and_proves_it_on_its_images(limbeck: Run, trained: Path, tmp_path: Path) -> None:
    argv = ["export", trained, tmp_path / "out", "--format", "onnx", "--precision", "fp16", "--json"]
    code, out, err = limbeck(*argv)
    assert code == 0, err
    result = json.loads(out)
    assert result["proof"]["neighbors"] > 0.97
    for accuracy in ("knn", "linear"):
        assert result["proof"][accuracy] == pytest.approx(result["proof"][f"fp32_{accuracy}"], abs=0.05)
    assert (result["openvino_latency_ms"] is None) == (find_spec("openvino") is None)
    assert result["openvino_latency_ms"] is None or result["openvino_latency_ms"] > 0
    weights = sum(value.numel() for value in load(trained).state_dict().values())
    assert 2 * weights < (tmp_path / "out" / "model.onnx").stat().st_size < 3 * weights


@pytest.mark.parametrize(
    ("options", "code", "value"),
    [
        ({"precision": "int4", "format": "onnx"}, "unknown-precision", "int4"),
        ({"precision": "int8"}, "precision-needs-onnx", "timm"),
        ({"precision": "int8", "format": "onnx", "keep": 1.5}, "bad-keep", "1.5"),
        ({"format": "onnx", "keep": 0.9}, "keep-needs-precision", "0.9"),
        ({"precision": "fp16", "format": "onnx", "mixed": True}, "mixed-needs-int8", "fp16"),
        ({"precision": "int8", "format": "onnx"}, "no-images", "--images"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(
    encoder: Path, tmp_path: Path, options: Any, code: str, value: str
) -> None:
    with raises(code, value):
        export(encoder, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_three_images_and_weights_that_are_no_numbers_are_refused(
    encoder: Path, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    with raises("too-few-images", 3):
        export(encoder, tmp_path / "out", format="onnx", precision="int8", images=pixels[:3])
    backbone = load(encoder)
    with torch.no_grad():
        backbone.model.layer1[0].conv1.weight[0, 0, 0, 0] = float("nan")
    save_encoder(backbone, tmp_path / "broken", HOW, {})
    with raises("weights-not-finite", "layer1.0.conv1.weight"):
        export(tmp_path / "broken", tmp_path / "out")


def test_a_file_in_fp32_is_proven_on_the_images_of_its_run(trained: Path, limbeck: Run, tmp_path: Path) -> None:
    code, out, err = limbeck("export", trained, tmp_path / "out", "--format", "onnx", "--json")
    assert code == 0, err
    proof = json.loads(out)["proof"]
    assert 32 <= proof["images"] <= QUICK_PROOF
    assert proof["neighbors"] > 0.99 > 0.8 > proof["chance"]
    code, out, err = limbeck("export", trained / "encoder", tmp_path / "alone", "--format", "onnx", "--json")
    assert (code, json.loads(out)["proof"]) == (0, None), err


def test_calibration_and_proof_share_no_image(pixels: NDArray[np.uint8]) -> None:
    for count in (64, 100, 200):
        numbered = np.zeros((count, 16, 16, 3), np.uint8)
        numbered[:, :, :, 0] = np.arange(count, dtype=np.uint8)[:, None, None]
        found = split_examples(Store.from_arrays(numbered), HOW, fold=True)
        parts = [{int(image[0, 0, 0]) for images, _ in part for image in images} for part in found]
        assert not parts[0] & parts[1]
        assert parts[0] | parts[1] == {*range(count)}
        assert len(parts[0]) == min(CALIBRATION, count // 2)


def test_onnx_runtime_sends_nothing(fp32: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """It writes an identifier of the machine into the home folder where it may."""
    code = "import limbeck, onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"
    home = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, str(fp32[0])], env=home, check=True)
    assert list(tmp_path.iterdir()) == []
