"""Weights in the layouts of public checkpoints are those of timm's network: its features are the original's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from limbeck.models.config import BackboneConfig
from limbeck.models.layouts import fit_names
from limbeck.models.pretrained import load_from_file
from tests.helpers.errors import raises
from tests.helpers.folders import NARROW, VIT, disturb, images, timm_resnet, timm_vit

Weights = dict[str, Tensor]
VIT_FORM = BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args=VIT, small_stem=False)
RESNET_FORM = BackboneConfig(name="resnet18", image_size=32, args=NARROW, small_stem=False)


def body(state: Weights) -> Weights:
    return {name: tensor for name, tensor in state.items() if name.split(".")[0] not in ("head", "fc")}


def under(prefix: str, state: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state: Weights) -> Weights:
    """Return weights of the same network that must not be taken."""
    return {name: tensor + 1 for name, tensor in state.items()}


def head(prefix: str) -> Weights:
    return {f"{prefix}.{name}": torch.randn(3, 3) for name in ("0.weight", "2.weight")}


def mocov3(state: Weights) -> Any:
    base = under("module.base_encoder.", body(state) | head("head"))
    momentum = under("module.momentum_encoder.", other(body(state)) | head("head"))
    state_dict = momentum | base | under("module.", head("predictor"))
    return {"epoch": 300, "arch": "vit_small", "state_dict": state_dict, "optimizer": {"state": {}, "param_groups": []}}


def dino(state: Weights) -> Any:
    student = under("module.backbone.", other(body(state))) | under("module.", head("head"))
    teacher = under("backbone.", body(state)) | head("head")
    return {"student": student, "teacher": teacher, "epoch": 99, "optimizer": {"state": {}, "param_groups": []}}


def in_another_words(state: Weights) -> Weights:
    """Return names of a framework of one's own: the order and the last parts are torch's."""
    return {f"trunk/{number}.{name.rpartition('.')[2]}": tensor for number, (name, tensor) in enumerate(state.items())}


LAYOUTS: dict[str, Callable[[Weights], Any]] = {
    "plain": body,
    "with its classifier": dict,
    "wrapped by a trainer": lambda state: {"model": under("module.", state), "epoch": 3},
    "MoCo v3": mocov3,
    "MoCo v2": lambda state: {
        "state_dict": under("module.encoder_q.", body(state) | head("fc"))
        | under("module.encoder_k.", other(body(state)))
        | {"module.queue": torch.zeros(4, 2), "module.queue_ptr": torch.zeros(1)}
    },
    "DINO, the whole checkpoint": dino,
    "lightly": lambda state: {"state_dict": under("backbone.", body(state)) | head("projection_head")},
    "compiled": lambda state: under("_orig_mod.", body(state)),
    "names of another framework": in_another_words,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("make", "form"), [(timm_vit, VIT_FORM), (timm_resnet, RESNET_FORM)])
@torch.no_grad()
def test_a_layout_is_the_network(tmp_path: Path, layout: str, make: Callable[[], Any], form: BackboneConfig) -> None:
    model = make()
    torch.save(LAYOUTS[layout](model.state_dict()), tmp_path / "a.pth")
    found = load_from_file(tmp_path / "a.pth", form).backbone.eval()
    expected = model.forward_head(model.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(found(images()).final, expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_torchvision(tmp_path: Path) -> None:
    model = disturb(torchvision.models.resnet18(num_classes=5))
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    form = BackboneConfig(name="resnet18", small_stem=False)
    found = load_from_file(tmp_path / "a.safetensors", form).backbone.eval()
    model.fc = torch.nn.Identity()
    torch.testing.assert_close(found(images()).final, model(images()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("registers", [False, True])
@torch.no_grad()
def test_dinov2_with_and_without_registers(tmp_path: Path, registers: bool) -> None:
    """DINOv2 adds positions to CLS, also where there are registers, and has a token for masks."""
    name = "vit_small_patch14_reg4_dinov2" if registers else "vit_small_patch14_dinov2"
    args = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    model = timm.create_model(name, img_size=28, num_classes=0, **args).eval()
    torch.nn.init.normal_(model.cls_token)
    state: Weights = {"mask_token": torch.randn(1, 24), **model.state_dict()}
    if registers:
        position = torch.randn(1, 1, 24)
        state["register_tokens"] = state.pop("reg_token")
        state |= {"cls_token": state["cls_token"] - position}
        state |= {"pos_embed": torch.cat([position, state["pos_embed"]], dim=1)}
    torch.save({"teacher": under("backbone.", state) | head("dino_head") | head("ibot_head")}, tmp_path / "a.pth")
    form = BackboneConfig(name=name, image_size=28, args=args, small_stem=False)
    found = load_from_file(tmp_path / "a.pth", form)
    torch.testing.assert_close(found.backbone.eval()(images(size=28)).final, model(images(size=28)), rtol=0, atol=1e-6)


@torch.no_grad()
def test_positions_are_resampled_and_it_is_noted(tmp_path: Path) -> None:
    model = timm_vit(classes=0)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    form = BackboneConfig(name=VIT_FORM.name, image_size=48, args=VIT, small_stem=False)
    found = load_from_file(tmp_path / "a.pth", form)
    model.set_input_size((48, 48))
    torch.testing.assert_close(found.backbone.eval()(images(size=48)).final, model(images(size=48)), rtol=0, atol=1e-6)
    assert any("17 positions" in note and "37" in note for note in found.notes)


def test_what_was_done_is_noted(tmp_path: Path) -> None:
    state = timm_resnet().state_dict()
    torch.save(mocov3(state), tmp_path / "a.pth")
    notes = " ".join(load_from_file(tmp_path / "a.pth", RESNET_FORM).notes)
    assert "base_encoder." in notes
    assert f"{len(body(state)) + 6} tensors" in notes


def test_other_weights_are_counted_and_named(tmp_path: Path) -> None:
    torch.save(timm_resnet().state_dict(), tmp_path / "a.pth")
    with raises("weights-mismatch", "missing (cls_token", "unexpected (bn1.bias", "a.pth", "rename"):
        load_from_file(tmp_path / "a.pth", VIT_FORM)


def test_patches_of_another_size_are_refused(tmp_path: Path) -> None:
    """timm would resample them."""
    torch.save(timm_vit().state_dict(), tmp_path / "a.pth")
    form = BackboneConfig(name=VIT_FORM.name, image_size=32, args={**VIT, "patch_size": 16})
    with raises("weights-mismatch", "patch_embed.proj.weight"):
        load_from_file(tmp_path / "a.pth", form)


def test_an_order_that_is_sorted_by_name_matches_nothing() -> None:
    """Blocks have equal shapes, so that a sorted order would exchange them."""
    state = timm_vit(classes=0).state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    renamed = {f"x.{name}".replace("blocks", "layers").replace("norm", "ln"): state[name] for name in sorted(state)}
    assert not {*shapes} <= {*fit_names(renamed, shapes).value}
