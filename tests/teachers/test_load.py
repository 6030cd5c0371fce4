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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.export import export
from limbeck.teachers import TeacherConfig, load_teacher
from tests.helpers.folders import MEAN, STD, images, limbeck_run, save_timm, timm_resnet, timm_vit


def teacher(name: str | Path = "mine", **settings: Any) -> TeacherConfig:
    return TeacherConfig(name=str(name), **({"precision": "fp32"} | settings))


@pytest.mark.parametrize("make", [timm_vit, timm_resnet])
@torch.no_grad()
def test_a_timm_folder_is_its_network_without_the_classifier(tmp_path: Path, make: Callable[[], Any]) -> None:
    model = make()
    save_timm(model, tmp_path, mean=MEAN, std=STD, input_size=(3, 32, 32), interpolation="bilinear")
    frozen = load_teacher(teacher(tmp_path))
    features = model.forward_features(images())
    answer = frozen.network(images(), maps=True)
    torch.testing.assert_close(answer.vector, model.forward_head(features, pre_logits=True))
    places = features if features.ndim == 4 else features[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(answer.map, places)
    assert (frozen.size, frozen.mean, frozen.std, frozen.interpolation) == (32, MEAN, STD, "bilinear")
    assert (frozen.dim, frozen.map_dim, frozen.source) == (24, 24, str(tmp_path))
    assert frozen.parameters == sum(p.numel() for p in model.parameters()) - 5 * 25


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
    for frozen in teachers:
        answer = frozen.network(images(), maps=True)
        torch.testing.assert_close(answer.vector, expected.taps[tap])
        torch.testing.assert_close(answer.map, expected.feature_maps[tap])
        assert (frozen.size, frozen.mean, frozen.std, frozen.interpolation) == (32, MEAN, STD, "bilinear")
    assert len({frozen.digest for frozen in teachers}) == 1


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


def test_a_tag_says_how_the_weights_of_a_file_see_and_a_bare_name_does_not(tmp_path: Path) -> None:
    model = disturbed_resnet()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    frozen = load_teacher(teacher("resnet10t.c3_in1k", weights=str(tmp_path / "a.safetensors"), image_size=32))
    known = timm.get_pretrained_cfg("resnet10t.c3_in1k")
    assert (frozen.mean, frozen.std, frozen.interpolation) == (known.mean, known.std, known.interpolation)
    with pytest.raises(UserError, match=r"mean and std the teacher 'resnet10t' was.*--teacher.mean and --teacher.std"):
        load_teacher(teacher("resnet10t", weights=str(tmp_path / "a.safetensors"), image_size=32))


def test_weights_that_do_not_fit_are_listed_and_counted(tmp_path: Path) -> None:
    weights = disturbed_resnet().state_dict()
    del weights["layer1.0.conv1.weight"]
    weights["layer2.0.conv1.weight"] = torch.zeros(3, 3)
    weights |= {f"head.{i}": torch.zeros(1) for i in range(5)}
    save_file(weights, tmp_path / "a.safetensors")
    cfg = teacher("resnet10t", weights=str(tmp_path / "a.safetensors"), image_size=32, mean=MEAN, std=STD)
    with pytest.raises(UserError) as caught:
        load_teacher(cfg)
    said = str(caught.value)
    assert "1 missing (layer1.0.conv1.weight)" in said
    assert "5 unexpected (head.0, head.1, head.2 ...)" in said
    assert "1 of another shape (layer2.0.conv1.weight)" in said


def test_networks_that_timm_loads_in_part_are_not(tmp_path: Path) -> None:
    weights = timm.create_model("dla46_c").state_dict()
    save_file(weights, tmp_path / "whole.safetensors")
    lost = "level2.tree1.conv1.weight"
    del weights[lost]
    save_file(weights, tmp_path / "part.safetensors")
    cfg = teacher("dla46_c", image_size=32, mean=MEAN, std=STD)
    load_teacher(replace(cfg, weights=str(tmp_path / "whole.safetensors")))
    with pytest.raises(UserError, match=rf"1 missing \({lost}\)"):
        load_teacher(replace(cfg, weights=str(tmp_path / "part.safetensors")))


def test_a_folder_whose_weights_are_of_another_network_is_refused(tmp_path: Path) -> None:
    save_timm(timm_vit(), tmp_path)
    save_file(timm_resnet().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"missing \(cls_token, pos_embed, .* unexpected \(bn1.bias"):
        load_teacher(teacher(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor this"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_teacher(teacher("resnet10t", weights=str(file)))


def test_a_file_that_would_run_code_or_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save({"epoch": 3, "student": {}}, tmp_path / "more.pth")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_teacher(teacher("resnet10t", weights=str(tmp_path / "module.pth")))
    with pytest.raises(UserError, match=r"holds more than tensors \(epoch, student\)"):
        load_teacher(teacher("resnet10t", weights=str(tmp_path / "more.pth")))


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (teacher("resnet19"), r"neither a folder nor a timm model \(did you mean 'resnet1.'"),
        (teacher("runs/nothing"), "neither a folder nor a timm model"),
        (teacher("resnet10t", weights="nowhere.pth"), "there is no file 'nowhere.pth'"),
        (teacher("resnet10t", weights=__file__), "is no weights file: .safetensors, .pth"),
        (teacher("test_vit4"), "timm has no weights for 'test_vit4': give a file with --teacher.weights"),
        (teacher("hf-hub:nobody/nothing"), "cannot be read from the hub"),
    ],
)
def test_what_is_not_there_is_said(cfg: TeacherConfig, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm.models, "load_model_config_from_hf", _offline)
    with pytest.raises(UserError, match=said):
        load_teacher(cfg)


def _offline(identity: str) -> Any:
    raise OSError(f"no network to {identity}")


def test_folders_without_a_teacher_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config.json"):
        load_teacher(teacher(tmp_path))
    for content, said in [
        ("{", "is not valid JSON"),
        ("[]", "no object"),
        ("{}", "neither Limbeck's, timm's nor"),
        ('{"architecture": "resnet18", "pretrained_cfg": 3}', "no weights"),
    ]:
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=said):
            load_teacher(teacher(tmp_path))


def test_names_of_timm_start_with_timms_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    real = timm.create_model

    def create(name: str, pretrained: bool, pretrained_cfg_overlay: Any, **args: Any) -> Any:
        asked.update(name=name, pretrained=pretrained)
        return real(name, pretrained=False, **args)

    monkeypatch.setattr(timm, "create_model", create)
    frozen = load_teacher(teacher("test_vit", image_size=64))
    known = timm.get_pretrained_cfg("test_vit")
    assert asked == {"name": "test_vit", "pretrained": True}
    assert (frozen.size, frozen.mean, frozen.std, frozen.license) == (64, known.mean, known.std, known.license)


def test_a_repository_of_the_hub_is_a_timm_folder_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_timm(timm_vit(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    found = (config["pretrained_cfg"], config["architecture"], config["model_args"])
    weights = load_file(tmp_path / "model.safetensors")
    monkeypatch.setattr(timm.models, "load_model_config_from_hf", lambda identity: found)
    monkeypatch.setattr(timm.models, "load_state_dict_from_hf", lambda identity, weights_only: weights)
    here, there = load_teacher(teacher(tmp_path)), load_teacher(teacher("hf-hub:a/b"))
    assert here.digest == there.digest
    assert torch.equal(here.network(images()).vector, there.network(images()).vector)


@pytest.mark.parametrize("missing", ["mean", "std"])
def test_an_unknown_normalisation_is_refused_and_a_given_one_taken(tmp_path: Path, missing: str) -> None:
    save_timm(timm_vit(), tmp_path, mean=MEAN, std=STD)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    del config["pretrained_cfg"][missing]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"with which {missing} the teacher .*: give --teacher.{missing}$"):
        load_teacher(teacher(tmp_path))
    frozen = load_teacher(teacher(tmp_path, **{missing: (0.7, 0.8, 0.9)}))
    assert (frozen.mean, frozen.std) == ((0.7, 0.8, 0.9), STD) if missing == "mean" else (MEAN, (0.7, 0.8, 0.9))


@torch.no_grad()
def test_positions_are_resampled_for_another_size(tmp_path: Path) -> None:
    model = timm_vit()
    save_timm(model, tmp_path / "timm")
    backbone = limbeck_run(tmp_path / "run")
    for source, reference in ((tmp_path / "timm", model), (tmp_path / "run", backbone.model)):
        frozen = load_teacher(teacher(source, image_size=48))
        reference.set_input_size(48)
        expected = reference.forward_head(reference.forward_features(images(size=48)), pre_logits=True)
        torch.testing.assert_close(frozen.network(images(size=48)).vector, expected)
        with pytest.raises(UserError, match=r"patches of 8 pixels: give --teacher.image-size 40 or 48, not 44"):
            load_teacher(teacher(source, image_size=44))


def test_a_network_that_serves_one_size_says_so(tmp_path: Path) -> None:
    save_timm(timm.create_model("mixer_s32_224", img_size=64, num_classes=3), tmp_path)
    assert load_teacher(teacher(tmp_path)).size == 64
    with pytest.raises(UserError, match=r"are not those of 'mixer_s32_224' at 96 pixels: .* of another shape"):
        load_teacher(teacher(tmp_path, image_size=96))


def test_loading_leaves_the_generator_where_it_was(tmp_path: Path) -> None:
    limbeck_run(tmp_path)
    before = torch.get_rng_state()
    load_teacher(teacher(tmp_path, image_size=48))
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_a_network_without_positions_takes_any_size_that_it_can_pool(tmp_path: Path) -> None:
    backbone = limbeck_run(tmp_path, name="resnet18")
    frozen = load_teacher(teacher(tmp_path, image_size=50))
    torch.testing.assert_close(frozen.network(images(size=50)).vector, backbone(images(size=50)).final)


class Pair(nn.Module):
    """A module that answers as it is distillers."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.conv, self.norm, self.answer = nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4), answer

    def forward(self, x: Tensor) -> Any:
        places = self.norm(self.conv(x))
        vector = places.amax(dim=(2, 3))
        return {"map": places, "vector": vector, "pair": (vector, places), "tokens": places.flatten(2)}[self.answer]


@pytest.mark.parametrize("answer", ["vector", "map", "pair"])
@torch.no_grad()
def test_a_module_of_ones_own_answers_in_three_ways(answer: str) -> None:
    module = Pair(answer)
    cfg = teacher(image_size=32, mean=MEAN, std=STD)
    frozen = load_teacher(cfg, teacher_module=module)
    places = module.norm(module.conv(images()))
    said = frozen.network(images(), maps=True)
    pooled = places.mean(dim=(2, 3)) if answer == "map" else places.amax(dim=(2, 3))
    torch.testing.assert_close(said.vector, pooled)
    if answer == "vector":
        assert said.map is None
        assert frozen.map_dim == 0
    else:
        torch.testing.assert_close(said.map, places)
    assert frozen.network(images()).map is None


def test_a_module_says_how_it_sees_or_is_refused() -> None:
    with pytest.raises(UserError, match=r"--teacher.image-size and --teacher.mean and --teacher.std"):
        load_teacher(teacher(), teacher_module=Pair("map"))
    known = teacher(image_size=32, mean=MEAN, std=STD)
    with pytest.raises(UserError, match=r"answers in shapes \[\(1, 4, 16\)\]"):
        load_teacher(known, teacher_module=Pair("tokens"))
    with pytest.raises(UserError, match="'mine' cannot see images of 4 pixels"):
        load_teacher(replace(known, image_size=4), teacher_module=Pair("map"))
    for wrong, said in ({"depth": 1}, "teacher.depth cuts"), ({"weights": "a.pth"}, "brings its own"):
        with pytest.raises(UserError, match=said):
            load_teacher(replace(known, **wrong), teacher_module=Pair("map"))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"depth": 0}, {"std": (1.0, 0.0, 1.0)}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        teacher(**wrong)


def test_the_configuration_survives_json() -> None:
    cfg = teacher(image_size=32, mean=MEAN, std=STD, license="mit")
    assert from_json(TeacherConfig, to_json(cfg)) == cfg


def test_every_option_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `--teacher\.([\w-]+)` \| (?:`([^`]+)`)? ?\|", page, re.M))
    values = {f.name.replace("_", "-"): getattr(TeacherConfig(name=""), f.name) for f in fields(TeacherConfig)}
    assert documented == {key: str(value) for key, value in values.items()}
