"""What cannot be exported is refused in one sentence that names the value and the way out, and nothing is left."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck.exports.networks import write_torch
from limbeck.exports.onnx_file import open_onnx, write_onnx
from tests.helpers.commands import Run
from tests.helpers.errors import raises

IMAGES = torch.randn(2, 3, 2, 2)


@pytest.fixture(scope="module")
def inputs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an encoder, one whose weights are not finite, few images, and a folder of a user."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("encoder", "broken"):
        shutil.copytree(trained / "encoder", folder / name)
    weights = load_file(folder / "broken" / "model.safetensors")
    weights["norm.bias"][0] = torch.inf
    save_file(weights, folder / "broken" / "model.safetensors")
    for count in (1, 3, 63):
        np.save(folder / f"{count}.npy", np.zeros((count, 20, 20, 3), np.uint8))
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")
    return folder


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        ("encoder out --format onnx --precision int8", ["encoder'", "--images"]),
        ("encoder out --format onnx --precision int8 --images 1.npy", ["1 image ", "64", "--images"]),
        ("encoder out --format onnx --precision int8 --images 3.npy", ["3 images", "64", "--images"]),
        ("encoder out --format onnx --precision fp16 --images 63.npy", ["63 images", "64"]),
        ("encoder out --format onnx --rotate pca --images 3.npy", ["3 images", "64"]),
        ("encoder out --all --images 3.npy", ["3 images", "64"]),
        ("encoder out --all", ["encoder'", "--images"]),
        ("encoder out --depth 9", ["depth 9", "1 to 3"]),
        ("encoder out --depth 0", ["depth 0", "1 to 3"]),
        ("broken out --format onnx", ["norm.bias", "finite"]),
        ("broken out --all --images 63.npy", ["norm.bias", "finite"]),
        ("encoder mine", ["'mine'"]),
        ("encoder mine --all --images 63.npy", ["'mine'"]),
        ("encoder 3.npy --format onnx", ["'3.npy'"]),
        ("nowhere out", ["nowhere", "encoder"]),
    ],
)
def test_the_command_refuses(
    inputs: Path, limbeck: Run, monkeypatch: pytest.MonkeyPatch, argv: str, values: list[str]
) -> None:
    monkeypatch.chdir(inputs)
    before = sorted(inputs.rglob("*"))
    code, out, err = limbeck("export", *argv.split())
    last = err.strip().splitlines()[-1]
    assert (code, out) == (1, ""), err
    assert "Traceback" not in err
    assert last.startswith("limbeck: ")
    assert all(value in last for value in values), last
    assert sorted(inputs.rglob("*")) == before
    assert (inputs / "mine" / "notes.txt").read_text() == "mine"


class Bessel(nn.Module):
    """Computes what ONNX has no operator for."""

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B 12]."""
        return torch.special.bessel_j0(images.flatten(1))


class Choosing(nn.Module):
    """Computes one thing or another, by the values of the images."""

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B 12]."""
        features = images.flatten(1)
        return 2 * features if features.sum() > 0 else features


def test_an_operator_that_a_target_lacks_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with raises("not-exportable", "bessel_j0", "format torch") as caught:
        write_onnx(Bessel(), IMAGES, tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    with raises("not-exportable", "format torch"):
        write_onnx(Choosing(), IMAGES, tmp_path / "a.onnx")
    with raises("not-exportable", "data-dependent", "format timm") as caught:
        write_torch(Choosing(), IMAGES, tmp_path)
    assert len(str(caught.value)) < 300
    assert list(tmp_path.iterdir()) == []
    write_onnx(nn.Flatten(), IMAGES, tmp_path / "b.onnx")
    model = onnx.load(str(tmp_path / "b.onnx"))
    model.graph.node[0].op_type = "Bewilder"
    onnx.save(model, str(tmp_path / "c.onnx"))
    with raises("not-exportable", "Bewilder", "format torch"):
        open_onnx(tmp_path / "c.onnx")
    assert capfd.readouterr().out == ""
