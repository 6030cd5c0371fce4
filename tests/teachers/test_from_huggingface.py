"""Teachers from Hugging Face folders: tiny vision models with random weights, saved by their library."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.load import load_teacher
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, STD, images

transformers = pytest.importorskip("transformers")
FORM: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
WIDE = FORM | {"intermediate_size": 32}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
PROCESSOR = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "size": {"height": 32, "width": 32}}


def save(model: Any, folder: Path, **processor: Any) -> Any:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | processor))
    return model.eval()


def vit(**changes: Any) -> Any:
    return transformers.ViTModel(transformers.ViTConfig(**(WIDE | changes)))


def teacher(folder: Path, **settings: Any) -> TeacherConfig:
    return TeacherConfig(name=str(folder), precision="fp32", **settings)


SQUARE = {"height": 24, "width": 24}
CLIP = {"text_config": TEXT, "vision_config": WIDE, "projection_dim": 8}
MODELS = {
    "vit": vit,
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**FORM)),
    "dinov2-registers": lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**FORM)),
    "clip-vision": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**WIDE)),
    "clip": lambda: transformers.CLIPModel(transformers.CLIPConfig(**CLIP)),
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_vision_model_gives_its_pooled_output_and_the_square_of_its_patches(tmp_path: Path, name: str) -> None:
    model = save(MODELS[name](), tmp_path)
    loaded = load_teacher(teacher(tmp_path))
    expected = getattr(model, "vision_model", model)(pixel_values=images())
    output = loaded.network(images(), feature_map=True)
    torch.testing.assert_close(output.vector, expected.pooler_output)
    patches = expected.last_hidden_state[:, -16:]
    torch.testing.assert_close(output.feature_map, patches.transpose(1, 2).reshape(3, 16, 4, 4))
    assert (loaded.dim, loaded.map_dim, loaded.image_size, loaded.mean, loaded.std) == (16, 16, 32, MEAN, STD)


@torch.no_grad()
def test_a_convolutional_model_gives_its_last_stage(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    model = save(transformers.ResNetModel(config), tmp_path)
    expected = model(images()).last_hidden_state
    output = load_teacher(teacher(tmp_path)).network(images(), feature_map=True)
    torch.testing.assert_close(output.feature_map, expected)
    torch.testing.assert_close(output.vector, expected.mean(dim=(2, 3)))


@torch.no_grad()
def test_a_pooler_that_was_never_trained_is_not_used(tmp_path: Path) -> None:
    model = save(transformers.ViTForImageClassification(transformers.ViTConfig(**WIDE)), tmp_path)
    expected = model.vit(images()).last_hidden_state[:, 0]
    torch.testing.assert_close(load_teacher(teacher(tmp_path)).network(images()).vector, expected)


@torch.no_grad()
def test_another_size_resamples_the_positions(tmp_path: Path) -> None:
    model = save(vit(), tmp_path)
    loaded = load_teacher(teacher(tmp_path, image_size=48))
    expected = model(images(size=48), interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(loaded.network(images(size=48)).vector, expected)
    feature_map = loaded.network(images(size=48), feature_map=True).feature_map
    assert feature_map is not None
    assert feature_map.shape == (3, 16, 6, 6)
    with raises("teacher-image-size", 44, "40 or 48"):
        load_teacher(teacher(tmp_path, image_size=44))


@pytest.mark.parametrize(
    ("processor", "stated"),
    [
        (
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True},
            (24, MEAN, STD),
        ),
        (
            {"size": {"shortest_edge": 24}, "crop_size": {"height": 40, "width": 40}, "do_center_crop": False},
            (24, MEAN, STD),
        ),
        ({"size": 16}, (16, MEAN, STD)),
        ({"size": None}, (32, MEAN, STD)),
        ({"do_normalize": False}, (32, (0.0,) * 3, (1.0,) * 3)),
    ],
)
def test_preprocessing_is_read_as_it_is_written(tmp_path: Path, processor: dict[str, Any], stated: Any) -> None:
    save(vit(), tmp_path, resample=2, **processor)
    loaded = load_teacher(teacher(tmp_path))
    assert (loaded.image_size, loaded.mean, loaded.std) == stated
    assert loaded.interpolation == "bilinear"


@pytest.mark.parametrize(
    "processor", [{"image_mean": None, "image_std": None}, {"rescale_factor": 1 / 127.5}, {"do_rescale": False}]
)
def test_a_normalization_that_is_unknown_or_different_is_refused(tmp_path: Path, processor: dict[str, Any]) -> None:
    save(vit(), tmp_path, **processor)
    with raises("unknown-preprocessing", "--teacher.mean and --teacher.std"):
        load_teacher(teacher(tmp_path))
    assert load_teacher(teacher(tmp_path, mean=MEAN, std=STD)).mean == MEAN


def test_without_a_processor_the_normalization_is_unknown(tmp_path: Path) -> None:
    save(vit(), tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with raises("unknown-preprocessing", "--teacher.mean and --teacher.std"):
        load_teacher(teacher(tmp_path))


def test_weights_that_are_missing_or_damaged_are_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save(vit(), tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    lost = next(name for name in weights if name.endswith("layernorm.weight"))
    save_file({name: value for name, value in weights.items() if name != lost}, file, {"format": "pt"})
    with raises("weights-mismatch", lost):
        load_teacher(teacher(tmp_path))
    file.write_bytes(b"nothing")
    with raises("weights-unreadable", tmp_path):
        load_teacher(teacher(tmp_path))
    file.unlink()
    with raises("weights-unreadable", tmp_path):
        load_teacher(teacher(tmp_path))


def test_unknown_models_and_models_without_vision_are_refused(tmp_path: Path) -> None:
    save(transformers.BertModel(transformers.BertConfig(**TEXT)), tmp_path)
    with raises("not-a-vision-model", "bert"):
        load_teacher(teacher(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "custom"}))
    with raises("weights-unreadable", tmp_path):
        load_teacher(teacher(tmp_path))


def test_it_cannot_be_cut_and_its_card_states_the_license(tmp_path: Path) -> None:
    save(vit(), tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert load_teacher(teacher(tmp_path)).license == "cc-by-nc-4.0"
    with raises("teacher-depth", tmp_path):
        load_teacher(teacher(tmp_path, depth=1))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(vit(), tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with raises("missing-package", "pip install 'limbeck[huggingface]'"):
        load_teacher(teacher(tmp_path))


UNSAFE: list[dict[str, Any]] = [
    {"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": {"checkpoint_path": "evil.pth"}},
    {"model_type": "timm_backbone", "backbone": "resnet18"},
    {"model_type": "detr"},  # whose backbone is timm's unless it is named
    {"model_type": "detr", "backbone": "stranger/evil", "use_timm_backbone": False},
    {"auto_map": {"AutoModel": "evil.Model"}},
    {"vision_config": {"auto_map": {"AutoModel": "stranger/evil--evil.Model"}}},
    {"vision_config": {"model_type": "no_such_type", "_name_or_path": "stranger/evil"}},
    {"a": [{"trust_remote_code": True}]},
    {"attn_implementation": "stranger/kernel"},
    {"_attn_implementation": {"": "stranger/kernel"}},
    {"transformers_weights": "../elsewhere.safetensors"},
    {"quantization_config": {"quant_method": "gptq"}},
    {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet18"}},
]


@pytest.mark.parametrize("changes", UNSAFE, ids=str)
def test_a_folder_that_names_something_elsewhere_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    save(vit(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    (tmp_path / "evil.py").write_text("raise SystemExit")
    with raises("unsafe-config"):
        load_teacher(teacher(tmp_path))


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/passwd", 3])
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, place: Any) -> None:
    save(vit(), tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"layer": place}}))
    with raises("unsafe-config", index):
        load_teacher(teacher(tmp_path))


def test_an_adapter_is_refused(tmp_path: Path) -> None:
    save(vit(), tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "stranger/evil"}))
    with raises("unsafe-config", "adapter_config.json"):
        load_teacher(teacher(tmp_path))
