"""Every source gives its own network, its own preprocessing, and a sentence where it cannot."""

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.core.config import from_json, to_json
from limbeck.exports import export
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.load import load_teacher
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, STD, images, limbeck_run, save_timm, timm_resnet, timm_vit
from tests.helpers.hub import put_on_hub


def teacher(name: str | Path = "custom", **settings: Any) -> TeacherConfig:
    return TeacherConfig(name=str(name), **({"precision": "fp32"} | settings))


@pytest.mark.parametrize("make", [timm_vit, timm_resnet])
@torch.no_grad()
def test_a_timm_folder_is_its_network_without_the_classifier(tmp_path: Path, make: Callable[[], Any]) -> None:
    model = make()
    save_timm(model, tmp_path, mean=MEAN, std=STD, input_size=(3, 32, 32), interpolation="bilinear")
    loaded = load_teacher(teacher(tmp_path))
    features = model.forward_features(images())
    output = loaded.network(images(), feature_map=True)
    torch.testing.assert_close(output.vector, model.forward_head(features, pre_logits=True))
    places = features if features.ndim == 4 else features[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(output.feature_map, places)
    assert (loaded.image_size, loaded.mean, loaded.std, loaded.interpolation) == (32, MEAN, STD, "bilinear")
    assert (loaded.dim, loaded.map_dim, loaded.source) == (24, 24, str(tmp_path))
    assert loaded.num_parameters == sum(p.numel() for p in model.parameters()) - 5 * 25


@pytest.mark.parametrize("depth", [None, 2])
@torch.no_grad()
def test_a_run_its_encoder_and_its_export_are_the_same_teacher_at_any_depth(tmp_path: Path, depth: int | None) -> None:
    backbone = limbeck_run(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out", depth=depth)
    sources = [tmp_path / "run", tmp_path / "run" / "encoder"]
    teachers = [load_teacher(teacher(source, depth=depth)) for source in sources] + [
        load_teacher(teacher(tmp_path / "out"))
    ]
    tap = depth or 3
    expected = backbone(images(), taps=(tap,), feature_maps=True)
    for loaded in teachers:
        output = loaded.network(images(), feature_map=True)
        torch.testing.assert_close(output.vector, expected.taps[tap])
        torch.testing.assert_close(output.feature_map, expected.feature_maps[tap])
        assert (loaded.image_size, loaded.mean, loaded.std, loaded.interpolation) == (32, MEAN, STD, "bilinear")
    assert len({loaded.digest for loaded in teachers}) == 1


@torch.no_grad()
def test_a_timm_architecture_takes_weights_from_a_file(tmp_path: Path) -> None:
    model = disturbed_resnet()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "b.pth")
    for file in ("a.safetensors", "b.pth"):
        cfg = teacher("timm:resnet10t", weights=str(tmp_path / file), image_size=32, mean=MEAN, std=STD)
        expected = model.forward_head(model.forward_features(images()), pre_logits=True)
        torch.testing.assert_close(load_teacher(cfg).network(images()).vector, expected)


def disturbed_resnet() -> Any:
    return timm.create_model("resnet10t").eval()


def test_a_tag_states_the_preprocessing_of_a_file_of_weights(tmp_path: Path) -> None:
    save_file(disturbed_resnet().state_dict(), tmp_path / "a.safetensors")
    loaded = load_teacher(teacher("resnet10t.c3_in1k", weights=str(tmp_path / "a.safetensors"), image_size=32))
    known = timm.get_pretrained_cfg("resnet10t.c3_in1k")
    assert (loaded.mean, loaded.std, loaded.interpolation) == (known.mean, known.std, known.interpolation)


def test_without_a_tag_all_weights_of_timm_must_agree_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    save_file(disturbed_resnet().state_dict(), tmp_path / "a.safetensors")
    loaded = load_teacher(teacher("resnet10t", weights=str(tmp_path / "a.safetensors"), image_size=32))
    assert loaded.mean == timm.get_pretrained_cfg("resnet10t").mean
    assert "0.485" in caplog.text
    name = "mobilenetv4_conv_small"
    assert len({timm.get_pretrained_cfg(tag).mean for tag in timm.list_pretrained(f"{name}.*")}) > 1
    save_file(timm.create_model(name).state_dict(), tmp_path / "b.safetensors")
    with raises("unknown-preprocessing", name, "--teacher.mean and --teacher.std"):
        load_teacher(teacher(name, weights=str(tmp_path / "b.safetensors"), image_size=32))


def test_weights_that_do_not_fit_are_listed_and_counted(tmp_path: Path) -> None:
    weights = disturbed_resnet().state_dict()
    del weights["layer1.0.conv1.weight"]
    weights["layer2.0.conv1.weight"] = torch.zeros(3, 3)
    weights |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    save_file(weights, tmp_path / "a.safetensors")
    cfg = teacher("resnet10t", weights=str(tmp_path / "a.safetensors"), image_size=32, mean=MEAN, std=STD)
    missing, unexpected = "1 missing (layer1.0.conv1.weight)", "5 unexpected (extra.0, extra.1, extra.2 ...)"
    with raises("weights-mismatch", missing, unexpected, "1 of another shape (layer2.0.conv1.weight)"):
        load_teacher(cfg)


def test_weights_that_timm_would_load_in_part_are_refused(tmp_path: Path) -> None:
    weights = timm.create_model("dla46_c").state_dict()
    save_file(weights, tmp_path / "whole.safetensors")
    lost = "level2.tree1.conv1.weight"
    del weights[lost]
    save_file(weights, tmp_path / "part.safetensors")
    cfg = teacher("dla46_c", image_size=32, mean=MEAN, std=STD)
    load_teacher(replace(cfg, weights=str(tmp_path / "whole.safetensors")))
    with raises("weights-mismatch", f"1 missing ({lost})"):
        load_teacher(replace(cfg, weights=str(tmp_path / "part.safetensors")))


def test_a_folder_with_weights_of_another_network_is_refused(tmp_path: Path) -> None:
    save_timm(timm_vit(), tmp_path)
    save_file(timm_resnet().state_dict(), tmp_path / "model.safetensors")
    with raises("weights-mismatch", "missing (cls_token, pos_embed", "unexpected (bn1.bias"):
        load_teacher(teacher(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor this"])
@pytest.mark.parametrize(("suffix", "kind"), [("pth", "PyTorch"), ("safetensors", "safetensors")])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes, suffix: str, kind: str) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    with raises("weights-unreadable", file, f"no file of {kind}" if content else "empty"):
        load_teacher(teacher("resnet10t", weights=str(file)))


def test_a_file_that_would_run_code_or_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save({"epoch": 3, "student": {}}, tmp_path / "more.pth")
    with raises("weights-unreadable", "module.pth"):
        load_teacher(teacher("resnet10t", weights=str(tmp_path / "module.pth")))
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with raises("weights-unreadable", "list.pth", "state dict"):
        load_teacher(teacher("resnet10t", weights=str(tmp_path / "list.pth")))
    with raises("weights-format", "epoch, student"):
        load_teacher(teacher("resnet10t", weights=str(tmp_path / "more.pth")))


@pytest.mark.parametrize(
    ("cfg", "code", "value"),
    [
        (teacher("resnet19"), "unknown-network", "did you mean 'resnet1"),
        (teacher("runs/nothing"), "unknown-network", "runs/nothing"),
        (teacher("resnet10t", weights="nowhere.pth"), "file-not-found", "nowhere.pth"),
        (teacher("resnet10t", weights=__file__), "weights-format", ".safetensors, .pth"),
        (teacher("test_vit4"), "no-weights", "test_vit4"),
        (teacher("hf-hub:nobody/nothing"), "hub-unreachable", "nobody/nothing"),
    ],
)
def test_a_teacher_that_does_not_exist_is_refused(cfg: TeacherConfig, code: str, value: str) -> None:
    with raises(code, value):
        load_teacher(cfg)


def test_folders_without_a_teacher_are_refused(tmp_path: Path) -> None:
    with raises("not-a-network", tmp_path):
        load_teacher(teacher(tmp_path))
    for content, code in [
        ("{", "not-json"),
        ("[]", "not-a-network"),
        ("{}", "not-a-network"),
        ('{"architecture": "resnet18", "pretrained_cfg": 3}', "not-a-network"),
    ]:
        (tmp_path / "config.json").write_text(content)
        with raises(code):
            load_teacher(teacher(tmp_path))


def test_names_of_timm_start_with_timms_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_hub(save_timm(timm_vit(), tmp_path / "here"), "timm/test_vit.r160_in1k", tmp_path / "hub", monkeypatch)
    requested: dict[str, object] = {}
    real = timm.create_model

    def create(name: str, pretrained: bool, pretrained_cfg_overlay: Any, **args: Any) -> Any:
        requested.update(name=name, pretrained=pretrained)
        return real(name, pretrained=False, **args)

    monkeypatch.setattr(timm, "create_model", create)
    loaded = load_teacher(teacher("test_vit", image_size=64))
    known = timm.get_pretrained_cfg("test_vit")
    assert requested == {"name": "test_vit", "pretrained": True}
    assert (loaded.image_size, loaded.mean, loaded.std, loaded.license) == (64, known.mean, known.std, known.license)


def test_a_repository_of_the_hub_is_a_timm_folder_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_timm(timm_vit(), tmp_path / "here")
    put_on_hub(folder, "a/b", tmp_path / "hub", monkeypatch)
    here, there = load_teacher(teacher(folder)), load_teacher(teacher("hf-hub:a/b"))
    assert here.digest == there.digest
    assert torch.equal(here.network(images()).vector, there.network(images()).vector)


@pytest.mark.parametrize("missing", ["mean", "std"])
def test_an_unknown_normalization_is_refused_and_a_given_one_used(tmp_path: Path, missing: str) -> None:
    save_timm(timm_vit(), tmp_path, mean=MEAN, std=STD)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    del config["pretrained_cfg"][missing]
    file.write_text(json.dumps(config))
    with raises("unknown-preprocessing", f"--teacher.{missing}"):
        load_teacher(teacher(tmp_path))
    loaded = load_teacher(teacher(tmp_path, **{missing: (0.7, 0.8, 0.9)}))
    assert (loaded.mean, loaded.std) == ((0.7, 0.8, 0.9), STD) if missing == "mean" else (MEAN, (0.7, 0.8, 0.9))


@torch.no_grad()
def test_positions_are_resampled_for_another_size(tmp_path: Path) -> None:
    model = timm_vit()
    save_timm(model, tmp_path / "timm")
    backbone = limbeck_run(tmp_path / "run")
    whole = ("teacher-image-size", "40 or 48"), ("image-size-not-a-multiple-of-patch-size", "40 and 48")
    sources = ((tmp_path / "timm", model), (tmp_path / "run", backbone.model))
    for (source, reference), (code, sizes) in zip(sources, whole, strict=True):
        loaded = load_teacher(teacher(source, image_size=48))
        reference.set_input_size(48)
        expected = reference.forward_head(reference.forward_features(images(size=48)), pre_logits=True)
        torch.testing.assert_close(loaded.network(images(size=48)).vector, expected)
        with raises(code, 44, sizes):
            load_teacher(teacher(source, image_size=44))


def test_a_network_of_one_size_refuses_others(tmp_path: Path) -> None:
    save_timm(timm.create_model("mixer_s32_224", img_size=64, num_classes=3), tmp_path)
    assert load_teacher(teacher(tmp_path)).image_size == 64
    with raises("weights-mismatch", "mixer_s32_224", "96 pixels", "of another shape"):
        load_teacher(teacher(tmp_path, image_size=96))


def test_loading_leaves_the_generator_where_it_was(tmp_path: Path) -> None:
    limbeck_run(tmp_path)
    before = torch.get_rng_state()
    load_teacher(teacher(tmp_path, image_size=48))
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_a_network_without_positions_takes_any_size_that_it_can_pool(tmp_path: Path) -> None:
    backbone = limbeck_run(tmp_path, name="resnet18")
    loaded = load_teacher(teacher(tmp_path, image_size=50))
    torch.testing.assert_close(loaded.network(images(size=50)).vector, backbone(images(size=50)).final)


class Returning(nn.Module):
    """A module with one of several kinds of output."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.norm, self.kind = nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4), kind

    def forward(self, x: Tensor) -> Any:
        places = self.norm(self.conv(x))
        vector = places.amax(dim=(2, 3))
        return {"map": places, "vector": vector, "pair": (vector, places), "tokens": places.flatten(2)}[self.kind]


@pytest.mark.parametrize("kind", ["vector", "map", "pair"])
@torch.no_grad()
def test_a_custom_module_has_one_of_three_outputs(kind: str) -> None:
    module = Returning(kind)
    cfg = teacher(image_size=32, mean=MEAN, std=STD)
    loaded = load_teacher(cfg, teacher_module=module)
    places = module.norm(module.conv(images()))
    output = loaded.network(images(), feature_map=True)
    pooled = places.mean(dim=(2, 3)) if kind == "map" else places.amax(dim=(2, 3))
    torch.testing.assert_close(output.vector, pooled)
    if kind == "vector":
        assert output.feature_map is None
        assert loaded.map_dim == 0
    else:
        torch.testing.assert_close(output.feature_map, places)
    assert loaded.network(images()).feature_map is None


def test_a_custom_module_needs_its_preprocessing_and_a_fitting_output() -> None:
    with raises("unknown-preprocessing", "--teacher.image-size and --teacher.mean and --teacher.std"):
        load_teacher(teacher(), teacher_module=Returning("map"))
    known = teacher(image_size=32, mean=MEAN, std=STD)
    with raises("teacher-output", "(1, 4, 16)"):
        load_teacher(known, teacher_module=Returning("tokens"))
    with raises("teacher-image-size", "custom", "4 pixels"):
        load_teacher(replace(known, image_size=4), teacher_module=Returning("map"))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"depth": 1}, "teacher-depth"),
        ({"weights": "a.pth"}, "teacher-weights-twice"),
    ]
    for wrong, code in cases:
        with raises(code):
            load_teacher(replace(known, **wrong), teacher_module=Returning("map"))


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"depth": 0}, {"std": (1.0, 0.0, 1.0)}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with raises("out-of-range", next(iter(wrong))):
        teacher(**wrong)


def test_the_configuration_survives_json() -> None:
    cfg = teacher(image_size=32, mean=MEAN, std=STD, license="mit")
    assert from_json(TeacherConfig, to_json(cfg)) == cfg


def test_every_option_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `--teacher\.([\w-]+)` \| (?:`([^`]+)`)? ?\|", page, re.M))
    values = {f.name.replace("_", "-"): getattr(TeacherConfig(name=""), f.name) for f in fields(TeacherConfig)}
    for name in ("name", "digest", "further-digests", "scales"):  # `--teacher NAME`, and what a run records
        del values[name]
    assert documented == {key: "" if value == () else str(value) for key, value in values.items()}
