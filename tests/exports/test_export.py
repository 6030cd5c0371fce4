"""Encoders on disk and their exports, read by timm, ONNX Runtime and PyTorch."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn

import limbeck
from limbeck.core.errors import UserError
from limbeck.exports import Format, export
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, load, load_preprocessing, save_encoder
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.load import load_teacher
from tests.helpers.disk import room
from tests.helpers.errors import raises
from tests.helpers.forks import run_module

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESSING = Preprocessing(image_size=32, store_size=32, mean=MEAN, std=STD)
VIT = BackboneConfig(image_size=32, args={"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2})
QUARTER = {"channels": [8, 12, 16, 24], "stem_type": "deep", "stem_width": 4}
NETWORKS = {
    "vit": VIT,
    "resnet": BackboneConfig(name="resnet18", image_size=32, small_stem=False, args={"channels": [8, 12, 16, 24]}),
    "vit-norms": replace(VIT, per_layer_norm=True),
    "resnet-small": BackboneConfig(name="resnet18", image_size=32, args=QUARTER),
    "mobilenet": BackboneConfig(name="mobilenetv3_small_050", image_size=32),
    "convnext": BackboneConfig(name="convnext_atto", args={"dims": [8, 16, 24, 32]}),
    "swin": BackboneConfig(
        name="swin_tiny_patch4_window7_224",
        image_size=32,
        args={"embed_dim": 12, "depths": [1, 1, 1, 1], "window_size": 2},
    ),
}


def saved(folder: Path, cfg: BackboneConfig) -> tuple[Path, Backbone]:
    """Return a run whose BatchNorm statistics and positions are not those of a fresh network."""
    torch.manual_seed(0)
    backbone = build_backbone(cfg)
    backbone(torch.randn(8, 3, 32, 32))
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.1) if parameter.ndim == 1 else None
    save_encoder(backbone, folder / "encoder", PREPROCESSING, {"method": "simclr"})
    return folder, backbone.eval()


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Backbone]:
    return saved(tmp_path / "run", VIT)


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))


def without_limbeck(folder: Path) -> nn.Module:
    """Load a folder as a program without Limbeck does: with its model.py, or with timm where there is none."""
    file = folder / "model.py"
    if not file.exists():
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        return model
    code = file.read_text(encoding="utf-8")
    assert "import limbeck" not in code
    assert "from limbeck" not in code
    assert code.count("\n") <= 60
    names: dict[str, Any] = {}
    exec(code, names)
    loaded: nn.Module = names["load"](folder)
    return loaded


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_what_is_saved_is_loaded_by_us_and_without_us(tmp_path: Path, network: str) -> None:
    folder, backbone = saved(tmp_path, NETWORKS[network])
    expected = backbone(images(), backbone.taps)
    loaded = load(folder).eval()
    assert loaded.cfg == backbone.cfg
    for tap, vector in loaded(images(), loaded.taps).taps.items():
        assert torch.equal(vector, expected.taps[tap])
    torch.testing.assert_close(without_limbeck(folder / "encoder")(images()), expected.final, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_an_exported_timm_folder_is_the_network_cut(tmp_path: Path, network: str) -> None:
    folder, backbone = saved(tmp_path / "run", NETWORKS[network])
    result = export(folder, tmp_path / "out", depth=2)
    expected = backbone(images(), (2,)).taps[2]
    torch.testing.assert_close(without_limbeck(tmp_path / "out")(images()), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(load(tmp_path / "out").eval()(images()).final, expected)
    torch.testing.assert_close(load(folder, depth=2).eval()(images()).final, expected)
    assert (result.depth, result.dim, result.difference) == (2, expected.shape[1], 0)
    assert load_preprocessing(tmp_path / "out") == PREPROCESSING


def test_timm_needs_no_limbeck_for_a_cut_vit(run: tuple[Path, Backbone], tmp_path: Path) -> None:
    export(run[0], tmp_path / "out", depth=2)
    code = (
        "import sys, timm\nprint(len(timm.create_model(sys.argv[1], pretrained=True).blocks), 'limbeck' in sys.modules)"
    )
    (tmp_path / "program.py").write_text(code)
    assert run_module(tmp_path, "program", f"local-dir:{tmp_path / 'out'}").split() == ["2", "False"]


@torch.no_grad()
def test_a_program_without_limbeck_loads_a_small_stem_and_a_cut(tmp_path: Path) -> None:
    folder, backbone = saved(tmp_path / "run", NETWORKS["resnet-small"])
    export(folder, tmp_path / "out", depth=2)
    code = (
        "import sys, torch; sys.modules['limbeck'] = None; from model import load\n"
        "torch.save([load(folder)(torch.load('images.pt')) for folder in sys.argv[1:]], 'features.pt')"
    )
    torch.save(images(), tmp_path / "out" / "images.pt")
    (tmp_path / "out" / "program.py").write_text(code)
    run_module(tmp_path / "out", "program", folder / "encoder", tmp_path / "out")
    whole, cut = torch.load(tmp_path / "out" / "features.pt")
    expected = backbone(images(), (2,))
    torch.testing.assert_close(whole, expected.final, atol=1e-5, rtol=0)
    torch.testing.assert_close(cut, expected.taps[2], atol=1e-5, rtol=0)


def test_nothing_of_limbeck_runs_the_file_next_to_the_weights(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "run", NETWORKS["resnet-small"])
    (folder / "encoder" / "model.py").write_text("raise SystemExit('executed')")
    load(folder)
    load_teacher(TeacherConfig(name=str(folder / "encoder")))
    export(folder, tmp_path / "out")
    assert "executed" not in (tmp_path / "out" / "model.py").read_text(encoding="utf-8")


def test_weights_can_start_a_classifier_in_timm(run: tuple[Path, Backbone]) -> None:
    model = timm.create_model(f"local-dir:{run[0] / 'encoder'}", pretrained=True, num_classes=7)
    assert model(images()).shape == (3, 7)
    assert torch.equal(model.blocks[0].attn.qkv.weight, run[1].model.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("size", [24, 32, 49, 64, 96, 224])
@pytest.mark.parametrize("store", [24, 32, 37, 49, 100, 128, 256])
def test_timm_prepares_images_as_the_encoder_expects(size: int, store: int) -> None:
    preprocessing = Preprocessing(image_size=size, store_size=store, mean=MEAN, std=STD)
    side = min(store, max(size, store * 7 // 8))
    cfg: dict[str, Any] = {"input_size": (3, size, size), "mean": MEAN, "std": STD, "interpolation": "bilinear"}
    cfg |= {"crop_pct": preprocessing.crop_pct, "crop_mode": preprocessing.crop_mode}
    resize, crop, *_ = create_transform(**resolve_data_config(pretrained_cfg=cfg)).transforms
    assert crop.size == (size, size)
    assert resize.size == (size * store // side, size * store // side)


def test_an_onnx_file_equals_pytorch_for_any_batch(run: tuple[Path, Backbone], tmp_path: Path) -> None:
    result = export(run[0], tmp_path / "onnx", depth=2, format="onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    (images_in,), (features,) = session.get_inputs(), session.get_outputs()
    assert (images_in.name, images_in.shape) == ("images", ["batch", 3, 32, 32])
    assert (features.name, features.shape) == ("features", ["batch", 24])
    for count in (1, 4, 7):
        with torch.no_grad():
            expected = run[1](images(count), (2,)).taps[2]
        found = torch.from_numpy(session.run(None, {"images": images(count).numpy()})[0])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert sorted(file.name for file in result.path.iterdir()) == ["README.md", "model.json", "model.onnx"]
    written = json.loads((result.path / "model.json").read_text())
    assert written["preprocessing"] == {
        **written["preprocessing"],
        "image_size": 32,
        "mean": list(MEAN),
        "std": list(STD),
    }
    assert (written["depth"], written["dim"], written["difference"]) == (2, 24, result.difference)
    assert 0 <= result.difference < 1e-4
    assert result.file_bytes == (result.path / "model.onnx").stat().st_size
    assert min(result.latency_ms, result.torch_latency_ms) > 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("format", ["timm", "onnx", "torch"])
def test_no_exported_file_names_a_folder_of_this_machine(tmp_path: Path, format: Any) -> None:
    config = {
        "store": "/home/ada/.cache/train-28",
        "teacher": {"name": r"C:\Users\ada\big"},
        "places": [1, "/a/b", "../c/d", "~/e"],
    }
    folder, backbone = saved(tmp_path / "run", VIT)
    save_encoder(backbone, folder / "encoder", PREPROCESSING, {"run": config, "method": "simclr"})
    export(folder, tmp_path / "out", format=format)
    provenance = {
        "run": {"store": "train-28", "teacher": {"name": "big"}, "places": [1, "b", "d", "e"]},
        "method": "simclr",
    }
    name = "config.json" if format == "timm" else "model.json"
    written = json.loads((tmp_path / "out" / name).read_text())
    assert (written["limbeck"] if format == "timm" else written)["provenance"] == provenance
    for file in (tmp_path / "out").iterdir():
        content = file.read_bytes()
        for private in (
            "/home/ada",
            "Users",
            Path(limbeck.__file__).parents[1],
            Path(timm.__file__).parents[1],
            tmp_path,
        ):
            assert str(private).encode() not in content, file.name


@torch.no_grad()
def test_normalization_can_be_folded_into_the_onnx_file(tmp_path: Path) -> None:
    folder, backbone = saved(tmp_path / "run", NETWORKS["resnet-small"])
    export(folder, tmp_path / "out", format="onnx", fold_preprocessing=True)
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    normalized = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    found = torch.from_numpy(session.run(None, {"images": pixels.numpy()})[0])
    torch.testing.assert_close(found, backbone(normalized).final, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_torch_program_equals_the_network(run: tuple[Path, Backbone], tmp_path: Path) -> None:
    result = export(run[0], tmp_path / "out", format="torch")
    program = torch.export.load(result.path / "model.pt2").module()
    torch.testing.assert_close(program(images(4)), run[1](images(4)).final)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_file_that_differs_is_removed(
    value: float, run: tuple[Path, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*args: Any) -> Callable[[Tensor], Tensor]:
        (args[-1] / "config.json").write_text("{}")
        return lambda batch: torch.full((len(batch), 24), value)

    monkeypatch.setattr("limbeck.exports.write.write_timm", other)
    with pytest.raises(RuntimeError, match="differs from the network"):
        export(run[0], tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [run[0]]


def test_nothing_is_overwritten(run: tuple[Path, Backbone], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(run[0], out)
    before = {file: file.read_bytes() for file in out.iterdir()}
    with raises("out-not-empty", out):
        export(run[0], out, depth=1)
    assert {file: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize("format", ["timm", "onnx", "torch"])
def test_a_full_disk_names_what_was_to_be_written(run: tuple[Path, Backbone], tmp_path: Path, format: Format) -> None:
    with raises("disk-full", tmp_path / "out") as caught, room(4000):
        export(run[0], tmp_path / "out", format=format)
    assert "unfinished" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_saving_again_replaces_the_encoder(run: tuple[Path, Backbone]) -> None:
    nn.init.ones_(run[1].model.norm.weight)
    save_encoder(run[1], run[0] / "encoder", PREPROCESSING, {"epoch": 2})
    assert load(run[0]).model.norm.weight.eq(1).all()
    assert sorted(file.name for file in (run[0] / "encoder").iterdir()) == ["config.json", "model.safetensors"]


def test_mistakes_are_named(run: tuple[Path, Backbone], tmp_path: Path) -> None:
    with raises("no-encoder", tmp_path):
        load(tmp_path)
    with raises("depth-out-of-range", 9, "1 to 3"):
        load(run[0], depth=9)
    with raises("unknown-format", "onx", "did you mean 'onnx'"):
        export(run[0], tmp_path / "out", format="onx")  # type: ignore[arg-type]
    with raises("fold-needs-onnx-or-torch"):
        export(run[0], tmp_path / "out", fold_preprocessing=True)
    (run[0] / "encoder" / "model.safetensors").write_bytes(b"half")
    with raises("damaged-encoder", "model.safetensors"):
        load(run[0])
    (run[0] / "encoder" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not written by Limbeck"):
        load(run[0])


@pytest.mark.parametrize(
    ("network", "format", "fold"),
    [
        ("vit", "timm", False),
        ("resnet-small", "timm", False),
        ("vit", "onnx", False),
        ("vit", "onnx", True),
        ("vit", "torch", True),
    ],
)
def test_the_lines_of_the_readme_compute_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, format: Format, fold: bool
) -> None:
    folder, backbone = saved(tmp_path / "run", NETWORKS[network])
    export(folder, tmp_path / "out", format=format, fold_preprocessing=fold)
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    assert all((f"## {name}" in page) == (format == "onnx") for name in ("OpenVINO", "JavaScript", "C++"))
    monkeypatch.chdir(tmp_path / "out")
    monkeypatch.syspath_prepend(tmp_path / "out")
    monkeypatch.delitem(sys.modules, "model", raising=False)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    side = int(PREPROCESSING.image_size / PREPROCESSING.crop_pct)
    Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save("photo.png")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0].replace("photo.jpg", "photo.png"), names)
    left = (side - PREPROCESSING.image_size) // 2
    square = np.asarray(Image.open("photo.png"))[left : left + 32, left : left + 32]
    mean, std = (np.array(values, np.float32) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    inputs = torch.from_numpy(((square / np.float32(255) - mean) / std).transpose(2, 0, 1)[None].copy())
    with torch.no_grad():
        expected = backbone(inputs).final
    torch.testing.assert_close(torch.as_tensor(names["features"]), expected, rtol=1e-3, atol=1e-3)


def test_the_readme_names_the_labels_of_a_run(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "out")
    assert ": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    export(trained / "encoder", tmp_path / "alone")
    assert "Labels" not in (tmp_path / "alone" / "README.md").read_text(encoding="utf-8")
