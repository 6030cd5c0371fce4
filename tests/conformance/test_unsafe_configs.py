"""No configuration of a stranger makes timm read a file or an address, at any depth."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from limbeck.core.errors import UserError
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.runs.config import read_config
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.load import load_teacher
from tests.helpers.errors import raises

OVERLAY = {"url": "http://127.0.0.1:9/evil.pth", "hf_hub_id": None}
UNSAFE_ARGS: list[dict[str, Any]] = [
    {"pretrained": True},
    {"checkpoint_path": "evil.pth"},
    {"pretrained_cfg_overlay": OVERLAY},
    {"pretrained_cfg": {"file": "evil.pth"}},
    {"pretrained_strict": False},
    {"features_only": True, "feature_cls": "fx"},
    {"custom_load": "hf"},
    {"embed_layer": [{"deeper": {"hf_hub_id": "stranger/evil"}}]},
    {"norm_layer": "hf-hub:stranger/evil"},
    {"act_layer": "/etc/passwd"},
]
UNSAFE_BACKBONES: list[dict[str, Any]] = [{"name": "resnet18", "args": args} for args in UNSAFE_ARGS]


@pytest.mark.parametrize("backbone", UNSAFE_BACKBONES, ids=str)
def test_no_configuration_makes_timm_read_weights(tmp_path: Path, backbone: dict[str, Any]) -> None:
    """Neither that of a run nor of an encoder nor of a folder of timm's, at any depth."""
    with raises("unsafe-config"):
        BackboneConfig(**backbone)
    (tmp_path / "config.json").write_text(
        json.dumps({"store": "", "digest": "", "optim": {"name": "adamw"}, "backbone": backbone})
    )
    with raises("unsafe-config"):
        read_config(tmp_path)
    folder = tmp_path / "timm"
    folder.mkdir()
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"architecture": backbone["name"], "model_args": backbone["args"], "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(config))
    with raises("unsafe-config"):
        load_teacher(TeacherConfig(name=str(folder), mean=(0.5,) * 3, std=(0.5,) * 3, image_size=32))


@pytest.mark.parametrize("layers", [{"act_layer": "os.system"}, {"norm_layer": "no_such_norm"}])
def test_names_of_layers_are_those_of_timm(layers: dict[str, str]) -> None:
    with pytest.raises(UserError, match=next(iter(layers.values()))):
        build_backbone(BackboneConfig(image_size=32, args=layers))
