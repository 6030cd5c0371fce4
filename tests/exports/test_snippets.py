"""The lines for OpenVINO and JavaScript in the README of an ONNX export compute what ONNX Runtime does."""

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.exports.networks import FoldedPreprocessing
from limbeck.exports.onnx_file import open_onnx, write_onnx
from limbeck.exports.openvino import open_openvino
from limbeck.exports.snippets import other_languages
from limbeck.models.encoder_io import Preprocessing

HOW = Preprocessing(image_size=12, store_size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
SIDE = 13  # int(image_size / crop_pct): the square that an image is squeezed to
NODE, PACKAGES = shutil.which("node"), Path(__file__).parents[2] / "build" / "node_modules"
MISSING = ("there is no Node" if NODE is None else "") or (
    "" if (PACKAGES / "onnxruntime-web").is_dir() else "make javascript has not been run"
)
MAIN = """import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import { compute } from "./compute.mjs";

class Context { // of a canvas: the pixels of the square that a browser would have drawn, from the place where it begins
  drawImage(image, left, top, width, height) { this.place = [image, left, top, width, height]; }
  getImageData(left, top, width, height) {
    const [image, x, y, ...side] = this.place, data = [];
    for (let row = top - y; row < top - y + height; row++)
      data.push(...image.subarray(4 * (row * side[0] + left - x), 4 * (row * side[0] + left - x + width)));
    return { data };
  }
}
globalThis.OffscreenCanvas = class { getContext() { return new Context(); } };
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync("model.onnx"));
console.log(JSON.stringify([...await compute(session, readFileSync("image.rgba"))]));
process.exit(0);
"""


class Written(NamedTuple):
    """A file in a folder, the sections about it, and an image: as the file takes it, and its features."""

    folder: Path
    sections: str
    fold: bool
    square: NDArray[np.uint8]  # [SIDE SIDE 3]
    pixels: Tensor
    features: Tensor


@pytest.fixture(scope="module", params=[False, True], ids=["normalized", "uint8"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    fold, folder = request.param, tmp_path_factory.mktemp("snippets")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()).eval()
    square = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels = torch.from_numpy(square[None, : HOW.image_size, : HOW.image_size].copy())
    if fold:
        network = FoldedPreprocessing(network, HOW).eval()  # type: ignore[assignment]
    else:
        mean, std = torch.tensor(HOW.mean), torch.tensor(HOW.std)
        pixels = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        write_onnx(network, torch.cat([pixels, pixels]), folder / "model.onnx")
    features = open_onnx(folder / "model.onnx")(pixels)
    return Written(folder, other_languages(HOW, 24, "features", fold=fold), fold, square, pixels, features)


def code(sections: str, language: str) -> str:
    return sections.split(f"```{language}\n")[1].split("```")[0]


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_computes_the_same(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"pixels": written.pixels.numpy()}
    monkeypatch.chdir(written.folder)
    exec(code(written.sections, "python"), names)
    torch.testing.assert_close(torch.from_numpy(names["features"]), written.features, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_is_timed_where_it_takes_the_file(written: Written, tmp_path: Path) -> None:
    compiled = open_openvino(written.folder / "model.onnx")
    assert not isinstance(compiled, str)
    torch.testing.assert_close(compiled(written.pixels), written.features, rtol=1e-4, atol=1e-4)
    model = onnx.load(str(written.folder / "model.onnx"))
    model.graph.node[0].op_type = "Bewilder"
    onnx.save(model, str(tmp_path / "strange.onnx"))
    assert "Bewilder" in str(open_openvino(tmp_path / "strange.onnx"))


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")
def test_javascript_computes_the_same(written: Written) -> None:
    folder, alpha = written.folder, np.full((SIDE, SIDE, 1), 255, np.uint8)
    (folder / "node_modules").symlink_to(PACKAGES)
    (folder / "compute.mjs").write_text(code(written.sections, "javascript"), encoding="utf-8")
    (folder / "main.mjs").write_text(MAIN, encoding="utf-8")
    np.concatenate([written.square, alpha], axis=2).tofile(folder / "image.rgba")
    done = subprocess.run([str(NODE), "main.mjs"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    torch.testing.assert_close(found, written.features[0], rtol=1e-4, atol=1e-4)


def test_cpp_names_what_the_file_has(written: Written) -> None:
    """Nothing compiles it; its names, type, shape and count are compared with those of the file."""
    lines = code(written.sections, "cpp")
    shape = ", ".join(map(str, written.pixels.shape))
    kind = "uint8_t" if written.fold else "float"
    for part in (f"{{{shape}}}", f"CreateTensor<{kind}>", '{"images"}', '{"features"}', "first + 24"):
        assert part in lines
