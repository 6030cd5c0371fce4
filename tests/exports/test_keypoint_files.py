"""Keypoints in files: `embed` writes them for every image, and an export finds the same; other requests are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limbeck as package
from limbeck.cli import main
from limbeck.exports.onnx_file import open_onnx
from limbeck.keypoints.encoder_io import load_detector
from tests.helpers.commands import Run
from tests.helpers.errors import raises

SIZE, POINTS, IMAGES = 32, 3, 14
NETWORK = ["--backbone.image-size", SIZE, "--backbone.width", 4, "--backbone.keypoints", POINTS]


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images and a run of a few steps on them."""
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 60, (SIZE, SIZE, 3), np.uint8)
        row, column = rng.integers(0, SIZE - 8, 2)
        pixels[row : row + 8, column : column + 8] = 230
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02d}.png")
    training = ["--method", "autolink", *NETWORK, "--epochs", 2, "--batch-size", 7]
    main([str(word) for word in ["pretrain", folder / "photos", "--out", folder / "run", *training]])
    return folder


def places(folder: Path) -> np.ndarray:
    """Return (row, column) of the keypoints of all images, read without any code of the commands."""
    files = sorted((folder / "photos").glob("*.png"))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))
    with torch.no_grad():
        return load_detector(folder / "run")(pixels.permute(0, 3, 1, 2) / 127.5 - 1).final.numpy()


def test_embeddings_are_the_keypoints_of_whole_images(detected: Path, limbeck: Run, tmp_path: Path) -> None:
    code, _, err = limbeck(
        "embed", detected / "photos", "--with", detected / "run", "--out", tmp_path / "found.csv", "--precision", "fp32"
    )
    assert code == 0, err
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"{number:02d}.png" for number in range(IMAGES)]
    found = np.array([[float(value) for value in line.split(",")[2:]] for line in lines[1:]])
    assert found.shape == (IMAGES, 2 * POINTS)
    np.testing.assert_allclose(found, places(detected), atol=1e-5)


def test_a_run_in_python_loads_the_detector_whole(detected: Path) -> None:
    found = package.Run.open(detected / "run")
    pixels = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(found.load()(pixels).final, load_detector(detected / "run")(pixels).final)
    with raises("no-cut", "2"):
        found.load(depth=2)


@pytest.mark.parametrize("fold", [False, True], ids=["normalized", "pixels"])
def test_a_file_finds_the_keypoints_of_the_network(detected: Path, tmp_path: Path, fold: bool) -> None:
    result = package.export(detected / "run", tmp_path / "onnx", format="onnx", fold_preprocessing=fold)
    assert (result.dim, result.difference < 1e-4) == (2 * POINTS, True)
    assert result.proof is not None
    assert result.proof.images == IMAGES
    files = sorted((detected / "photos").glob("*.png"))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))
    taken = pixels if fold else pixels.permute(0, 3, 1, 2) / 127.5 - 1
    found = open_onnx(tmp_path / "onnx" / "model.onnx")(taken)
    np.testing.assert_allclose(found, places(detected), atol=1e-4)
    again = package.embed(detected / "photos", tmp_path / "onnx", precision="fp32")
    np.testing.assert_allclose(again.features, places(detected), atol=1e-5)
    written = "".join(file.read_text() for file in (tmp_path / "onnx").rglob("*.json"))
    assert str(detected) not in written, "no path of this machine is in an export"


@pytest.mark.parametrize(
    ("options", "code", "value"),
    [
        ([], "not-exportable", "timm"),
        (["--format", "onnx", "--depth", 3], "no-cut", "3"),
        (["--format", "onnx", "--precision", "int8"], "flag-without-use", "--precision"),
        (["--format", "torch", "--image-size", 16], "flag-without-use", "--image-size"),
        (["--format", "onnx", "--align"], "flag-without-use", "--align"),
    ],
    ids=["timm", "depth", "precision", "size", "align"],
)
def test_what_a_detector_has_no_use_for_is_refused(
    detected: Path, limbeck: Run, tmp_path: Path, options: list[object], code: str, value: str
) -> None:
    status, out, _ = limbeck("export", detected / "run", tmp_path / "file", *options, "--json")
    assert status == 1
    assert f'"{code}"' in out
    assert value in out
    assert not (tmp_path / "file").exists()
