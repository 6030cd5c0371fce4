"""A start gives its network, its weights and its normalization, or a sentence where it cannot."""

import logging
import pickle
import socket
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from limbeck.exports import export
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.models.start import LoadedStart, load_start
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, NARROW, STD, VIT, images, limbeck_run, save_timm, timm_resnet, timm_vit

VIT_FORM = BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args=VIT, mean=MEAN, std=STD)


def start(name: str | Path, given: BackboneConfig | None = None) -> LoadedStart:
    return load_start(StartConfig(name=str(name)), given)


def network(found: LoadedStart) -> Backbone:
    backbone = build_backbone(found.backbone)
    backbone.load_state_dict(found.weights)
    return backbone.eval()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
@pytest.mark.parametrize("source", ["run", "run/encoder", "out"])
@torch.no_grad()
def test_a_run_its_encoder_and_its_export(tmp_path: Path, source: str, name: str) -> None:
    backbone = limbeck_run(tmp_path / "run", name=name)
    export(tmp_path / "run", tmp_path / "out")
    found = start(tmp_path / source)
    assert found.backbone == replace(backbone.cfg, mean=MEAN, std=STD)
    assert torch.equal(network(found)(images()).final, backbone(images()).final)
    assert found.cfg.name == str(tmp_path / source)
    assert len(found.cfg.digest) == 64


@torch.no_grad()
def test_a_cut_export_starts_a_cut_network_and_a_cut_takes_the_first_blocks(tmp_path: Path) -> None:
    backbone = limbeck_run(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out", depth=2)
    expected = backbone(images(), taps=(2,)).taps[2]
    cut = start(tmp_path / "run", replace(backbone.cfg, cut=2))
    for found in (start(tmp_path / "out"), cut):
        assert (found.backbone.cut, network(found).taps) == (2, (1, 2))
        torch.testing.assert_close(network(found)(images()).final, expected)
    with raises("depth-out-of-range", "depth 3"):
        start(tmp_path / "out", replace(backbone.cfg, cut=3))


@torch.no_grad()
def test_a_timm_folder_has_its_own_architecture_and_normalization(tmp_path: Path) -> None:
    model = timm_vit()
    save_timm(model, tmp_path, mean=MEAN, std=STD, input_size=(3, 32, 32))
    found = start(tmp_path)
    form = found.backbone
    assert (form.name, form.image_size, form.mean, form.std) == ("vit_tiny_patch16_224", 32, MEAN, STD)
    expected = model.forward_head(model.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(network(found)(images()).final, expected)
    assert not network(found).model.patch_embed.proj.weight.requires_grad


@torch.no_grad()
def test_another_image_size_resamples_positions_and_keeps_the_stem(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    backbone = limbeck_run(tmp_path / "vit")
    found = start(tmp_path / "vit", replace(backbone.cfg, image_size=48))
    assert "32 pixels to 48" in caplog.text
    backbone.model.set_input_size((48, 48))
    torch.testing.assert_close(network(found)(images(size=48)).final, backbone(images(size=48)).final)
    resnet = limbeck_run(tmp_path / "resnet", name="resnet18")
    found = start(tmp_path / "resnet", replace(resnet.cfg, image_size=224))
    torch.testing.assert_close(network(found)(images()).final, resnet(images()).final)


def test_norms_of_every_layer_survive_another_size(tmp_path: Path) -> None:
    cfg = BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args=VIT, per_layer_norm=True)
    file = tmp_path / "a.pth"
    torch.save(timm_vit().state_dict(), file)
    weights = start(file, replace(cfg, image_size=48, mean=MEAN, std=STD)).weights
    assert torch.equal(weights["tap_norms.1.bias"], weights["model.norm.bias"])


def test_a_file_uses_the_given_network_at_its_usual_size(tmp_path: Path) -> None:
    save_file(timm_resnet().state_dict(), tmp_path / "a.safetensors")
    found = start(tmp_path / "a.safetensors", BackboneConfig(name="resnet18", args=NARROW))
    form = found.backbone
    assert (form.image_size, form.small_stem, form.mean) == (224, False, None)
    assert found.cfg.license == ""


def test_a_tag_states_the_normalization_of_a_file(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18d.ra4_e3600_r224_in1k").state_dict(), tmp_path / "a.pth")
    found = start(tmp_path / "a.pth", BackboneConfig(name="resnet18d.ra4_e3600_r224_in1k"))
    known = timm.get_pretrained_cfg("resnet18d.ra4_e3600_r224_in1k")
    assert (found.backbone.name, found.backbone.mean) == ("resnet18d", known.mean)
    with raises("unknown-normalization", "--backbone.mean and --backbone.std"):
        start(tmp_path / "a.pth", BackboneConfig(name="resnet18d"))
    given = BackboneConfig(name="resnet18d", mean=MEAN, std=STD)
    assert start(tmp_path / "a.pth", given).backbone.normalization == (MEAN, STD)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ({"name": "vit_small_patch16_224", "args": {}}, "vit_small_patch16_224"),
        ({"args": {"depth": 4}}, "args depth"),
        ({"small_stem": True}, "small_stem"),
        ({"stem_pool": True}, "stem_pool"),
        ({"per_layer_norm": True}, "per_layer_norm"),
    ],
)
def test_a_network_that_contradicts_the_start_is_refused(tmp_path: Path, change: dict[str, Any], value: str) -> None:
    backbone = limbeck_run(tmp_path)
    with raises("start-contradicted", value):
        start(tmp_path, replace(backbone.cfg, **change))


def test_what_changes_the_training_alone_is_allowed(tmp_path: Path) -> None:
    limbeck_run(tmp_path)
    given = BackboneConfig(name="vit_tiny_patch16_224", args={"drop_path_rate": 0.1}, gradient_checkpointing=True)
    form = start(tmp_path, given).backbone
    assert (form.args, form.gradient_checkpointing) == ({**VIT, "drop_path_rate": 0.1}, True)


@pytest.mark.parametrize(
    ("name", "given", "code", "value"),
    [
        ("runs/nothing", None, "unknown-network", "runs/nothing"),
        ("timm:resnet19", None, "unknown-network", "did you mean 'resnet1"),
        ("timm:test_vit4", None, "no-weights", "test_vit4"),
        ("timm:test_vit", None, "weights-not-loaded", "test_vit"),  # tests are offline
        ("hf-hub:nobody/nothing", None, "hub-unreachable", "nobody/nothing"),
        ("nowhere.pth", None, "start-without-network", "--backbone"),
        ("nowhere.pth", VIT_FORM, "file-not-found", "nowhere.pth"),
        ("nowhere.pth", BackboneConfig(name="resnet19"), "unknown-backbone", "resnet19"),
        ("nowhere.pth", BackboneConfig(name="resnet18.a9"), "unknown-weights", "a9"),
    ],
)
def test_a_start_that_is_not_there_is_one_sentence(
    name: str, given: BackboneConfig | None, code: str, value: str
) -> None:
    with raises(code, value):
        start(name, given)


@pytest.mark.parametrize("name", ["timm:test_vit", "hf-hub:nobody/nothing", "hf-hub:timm/test_vit.r160_in1k@main"])
def test_a_hub_that_cannot_be_reached_is_asked_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def again(_: float) -> None:
        raise AssertionError("the hub is asked again after a pause")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for option, value in (("HF_HUB_OFFLINE", False), ("ENDPOINT", f"http://127.0.0.1:{port}")):
        monkeypatch.setattr(constants, option, value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(time, "sleep", again)
    code = "weights-not-loaded" if name.startswith("timm:") else "hub-unreachable"
    with caplog.at_level(logging.WARNING), raises(code, name.partition(":")[2], port):
        start(name)
    assert not caplog.records


def test_folders_and_files_that_are_no_networks(tmp_path: Path) -> None:
    with raises("not-a-network", tmp_path):
        start(tmp_path)
    (tmp_path / "config.json").write_text('{"method": {}, "training": {}}')
    with raises("not-a-network", f"limbeck resume {tmp_path}"):
        start(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with raises("not-a-network", "transformers"):
        start(tmp_path)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with warnings.catch_warnings(), raises("weights-unreadable", "module.pth", "`model.state_dict()`"):
        warnings.simplefilter("error")
        start(tmp_path / "module.pth", VIT_FORM)
    torch.save(timm_vit().state_dict(), tmp_path / "vit.pth")
    with raises("image-size-not-a-multiple-of-patch-size", 36):
        start(tmp_path / "vit.pth", replace(VIT_FORM, image_size=36))


def test_code_in_a_file_of_weights_is_neither_run_nor_advised(tmp_path: Path) -> None:
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"a": Path("x")}, protocol=4))
    with warnings.catch_warnings(), raises("weights-unreadable", "code.pth") as refused:
        warnings.simplefilter("error")
        start(tmp_path / "code.pth", VIT_FORM)
    assert "weights_only" not in str(refused.value)


def test_weights_that_have_changed_are_refused(tmp_path: Path) -> None:
    limbeck_run(tmp_path)
    found = start(tmp_path)
    assert load_start(found.cfg).cfg == found.cfg
    model = limbeck_run(tmp_path)
    with torch.no_grad():
        model.model.norm.bias += 1
    save = tmp_path / "encoder" / "model.safetensors"
    save_file(model.model.state_dict(), save)
    with raises("start-changed", found.cfg.digest[:12]):
        load_start(found.cfg)


def test_a_license_that_travels_is_recorded_and_a_binding_one_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limbeck_run(tmp_path, {"run": {"start": {"license": "mit"}, "teacher": {"license": "cc-by-nc-4.0"}}})
    assert start(tmp_path).cfg.license == "cc-by-nc-4.0, mit"
    assert "forbids commercial use" in caplog.text


def test_loading_leaves_the_generator_where_it_was(tmp_path: Path) -> None:
    limbeck_run(tmp_path)
    before = torch.get_rng_state()
    start(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
