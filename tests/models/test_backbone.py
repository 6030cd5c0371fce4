"""Backbones of several families: taps, cuts, stems, initialization, mistakes."""

import math

import pytest
import timm
import torch
from timm.models import register_model
from torch import Tensor, nn

from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import NOT_IN_TIMM, timm_format
from limbeck.models.surgery import timm_network
from limbeck.models.vit_init import sincos_positions
from tests.helpers.errors import raises

VIT = {"patch_size": 4, "embed_dim": 24, "depth": 4, "num_heads": 2}
QUARTER = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
FAMILIES = {
    "vit-cls": BackboneConfig(image_size=16, args=VIT),
    "vit-mean": BackboneConfig(image_size=16, args=VIT | {"global_pool": "avg"}),
    "vit-no-cls": BackboneConfig(image_size=16, args=VIT | {"global_pool": "avg", "class_token": False}),
    "vit-registers": BackboneConfig(image_size=16, args=VIT | {"reg_tokens": 2, "no_embed_class": True}),
    "deit-distilled": BackboneConfig(name="deit_tiny_distilled_patch16_224", image_size=16, args=VIT),
    "eva": BackboneConfig(name="eva02_tiny_patch14_224", image_size=16, args=VIT),
    "beit": BackboneConfig(name="beit_base_patch16_224", image_size=16, args=VIT),
    "resnet-quarter": BackboneConfig(name="resnet18", image_size=32, args=QUARTER),
    "resnet-pooled": BackboneConfig(name="resnet18", image_size=32, stem_pool=True, args=QUARTER),
    "resnet": BackboneConfig(name="resnet18", small_stem=False, args={"channels": [8, 16, 24, 32]}),
    "resnet-bottleneck": BackboneConfig(name="resnet26d", args={"channels": [4, 8, 8, 8]}),
    "mobilenet": BackboneConfig(name="mobilenetv3_small_050", image_size=32),
    "convnext": BackboneConfig(name="convnext_atto", args={"dims": [8, 16, 24, 32]}),
    "swin": BackboneConfig(
        name="swin_tiny_patch4_window7_224", image_size=56, args={"embed_dim": 12, "depths": [1, 1, 1, 1]}
    ),
    "convit": BackboneConfig(name="convit_tiny", image_size=64, args={"depth": 3}),
}


# timm's arguments cannot express their cuts (and, at 32 pixels, their stem)
NOT_STOCK = {"resnet-quarter", "resnet-pooled", "mobilenet", "convnext", "swin", "convit"}


def build(family: str) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(FAMILIES[family]).eval()


def images(backbone: Backbone, count: int = 2) -> Tensor:
    size = backbone.cfg.image_size or 64
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_taps_have_the_stated_widths_and_the_last_is_the_output_of_timm(family: str) -> None:
    backbone = build(family)
    x = images(backbone)
    final, taps, maps = backbone(x, backbone.taps, feature_maps=True)
    torch.testing.assert_close(final, backbone.model(x))
    assert torch.equal(taps[backbone.taps[-1]], final)
    assert {tap: vector.shape[1] for tap, vector in taps.items()} == backbone.tap_dims
    assert final.shape == (2, backbone.dim)
    assert all(square.ndim == 4 and len(square) == 2 for square in maps.values())
    assert {tap: square.shape[1] for tap, square in maps.items()} == backbone.map_dims
    assert set(maps) == set(taps) == set(backbone.taps)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_cut_computes_its_tap_and_is_saved_as_a_timm_model_where_possible(family: str) -> None:
    backbone = build(family)
    x = images(backbone)
    taps = backbone(x, backbone.taps).taps
    for depth in backbone.taps:
        cut = backbone.cut(depth)
        assert cut.taps == backbone.taps[:depth]
        torch.testing.assert_close(cut(x).final, taps[depth], atol=1e-5, rtol=1e-5)
        name, args = timm_format(cut)
        assert (name == NOT_IN_TIMM) == (family in NOT_STOCK and (depth < len(taps) or cut.cfg.image_size == 32))
        if name != NOT_IN_TIMM:
            model = timm.create_model(name, **args).eval()
            model.load_state_dict(timm_network(cut.model).state_dict())
            torch.testing.assert_close(model(x), taps[depth], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["vit-cls", "vit-mean", "resnet-quarter", "convnext"])
@torch.no_grad()
def test_requesting_some_taps_changes_no_features(family: str) -> None:
    backbone = build(family)
    x = images(backbone)
    every = backbone(x, backbone.taps)
    some = backbone(x, (3, 1))
    assert set(some.taps) == {1, 3}
    assert some.feature_maps == {}
    for tap in (1, 3):
        assert torch.equal(some.taps[tap], every.taps[tap])
    torch.testing.assert_close(backbone(x).final, every.final)


@torch.no_grad()
def test_a_vit_tap_is_the_block_output_through_the_final_norm() -> None:
    backbone = build("vit-cls")
    model, x = backbone.model, images(backbone)
    tokens = model._pos_embed(model.patch_embed(x))
    _, taps, maps = backbone(x, backbone.taps, feature_maps=True)
    for tap, block in enumerate(model.blocks, start=1):
        tokens = block(tokens)
        torch.testing.assert_close(taps[tap], model.norm(tokens)[:, 0])
        torch.testing.assert_close(maps[tap].flatten(2).mT, model.norm(tokens)[:, 1:])


@torch.no_grad()
def test_each_depth_can_have_its_own_norm() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(image_size=16, args=VIT, per_layer_norm=True)).eval()
    for name, norm in backbone.tap_norms.items():
        norm.get_parameter("weight").fill_(float(name))
    model, x = backbone.model, images(backbone)
    final, taps, _ = backbone(x, backbone.taps)
    tokens = model._pos_embed(model.patch_embed(x))
    for tap, block in enumerate(model.blocks, start=1):
        tokens = block(tokens)
        scale = 1.0 if tap == backbone.taps[-1] else float(tap)
        torch.testing.assert_close(taps[tap], scale * model.norm(tokens)[:, 0])
        torch.testing.assert_close(backbone.cut(tap)(x).final, taps[tap])
        torch.testing.assert_close(backbone.cut(tap).model(x), taps[tap])
    assert torch.equal(final, taps[backbone.taps[-1]])


@torch.no_grad()
def test_a_mean_pooled_vit_averages_the_patches_then_norms() -> None:
    backbone = build("vit-mean")
    x = images(backbone)
    _, taps, maps = backbone(x, (2,), feature_maps=True)
    torch.testing.assert_close(taps[2], backbone.model.fc_norm(maps[2].mean((2, 3))))


@torch.no_grad()
def test_a_cnn_tap_is_the_global_average_of_its_stage() -> None:
    backbone = build("resnet-quarter")
    _, taps, maps = backbone(images(backbone), backbone.taps, feature_maps=True)
    for tap in backbone.taps:
        torch.testing.assert_close(taps[tap], maps[tap].mean((2, 3)))
    assert [square.shape[-1] for square in maps.values()] == [32, 16, 8, 4]


def test_the_small_stem_is_a_3x3_convolution_of_the_width_it_replaces() -> None:
    quarter, mobile = build("resnet-quarter").model, build("mobilenet").model
    for conv, width in ((quarter.conv1, 16), (mobile.conv_stem, 16)):
        assert (conv.kernel_size, conv.stride, conv.out_channels) == ((3, 3), (1, 1), width)
    assert isinstance(quarter.maxpool, nn.Identity)
    pooled = build("resnet-pooled").model
    assert pooled.conv1.kernel_size == (3, 3)
    assert isinstance(pooled.maxpool, nn.MaxPool2d)
    plain = build_backbone(BackboneConfig(name="resnet18", image_size=96, args={"channels": [8, 8, 8, 8]})).model
    assert plain.conv1.kernel_size == (7, 7)


@pytest.mark.parametrize("args", [{}, {"layers": [1, 1, 1, 1]}])
@torch.no_grad()
def test_a_resnet_of_one_block_can_be_cut_out(args: dict[str, list[int]]) -> None:
    whole = build_backbone(BackboneConfig(name="resnet10t", args=args | {"channels": [8, 8, 8, 8]})).eval()
    x = images(whole)
    torch.testing.assert_close(whole.cut(1)(x).final, whole(x, (1,)).taps[1])


def test_a_cut_changes_neither_the_global_generator_nor_the_original() -> None:
    backbone = build("vit-cls")
    state, weights = torch.get_rng_state(), [p.clone() for p in backbone.parameters()]
    nn.init.zeros_(backbone.cut(2).model.blocks[0].attn.qkv.weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights, backbone.parameters(), strict=True))


def test_gradients_reach_all_but_the_frozen_parts() -> None:
    backbone = build("vit-cls").train()
    final, taps, _ = backbone(images(backbone), (1, 2))
    (final.square().sum() + sum(tap.square().sum() for tap in taps.values())).backward()
    without = {name for name, p in backbone.model.named_parameters() if p.grad is None}
    assert without == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert {name for name, p in backbone.model.named_parameters() if not p.requires_grad} == without


def test_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = build_backbone(BackboneConfig(image_size=16, args=VIT, gradient_checkpointing=checkpointing)).train()
        backbone(images(backbone), (2,)).taps[2].square().sum().backward()
        gradients.append(backbone.model.blocks[0].attn.qkv.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("family", ["vit-cls", "vit-mean", "resnet-quarter"])
@torch.no_grad()
def test_bfloat16_stays_near_float32(family: str) -> None:
    backbone = build(family)
    x = images(backbone)
    exact = backbone(x, backbone.taps)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = backbone(x, backbone.taps)
    for tap in backbone.taps:
        torch.testing.assert_close(rounded.taps[tap].float(), exact.taps[tap], atol=0.05, rtol=0.05)


def test_positions_follow_their_formula() -> None:
    table = sincos_positions(3, 5, 12)
    for row in range(3):
        for column in range(5):
            frequencies = [10_000 ** (-k / 3) for k in range(3)]
            expected = [f(p * w) for p in (row, column) for f in (math.sin, math.cos) for w in frequencies]
            torch.testing.assert_close(table[row * 5 + column], torch.tensor(expected))
    positions = build("vit-cls").model.pos_embed[0]
    assert not positions[0].any()
    torch.testing.assert_close(positions[1:], sincos_positions(4, 4, 24))


def test_the_initialization_is_moco_v3s() -> None:
    torch.manual_seed(0)
    width, patch = 96, 8
    args = {"patch_size": patch, "embed_dim": width, "depth": 2, "num_heads": 2}
    model = build_backbone(BackboneConfig(image_size=32, args=args)).model
    block = model.blocks[1]
    bounds = {
        "qkv": (block.attn.qkv.weight, math.sqrt(6 / (width + width))),
        "fc1": (block.mlp.fc1.weight, math.sqrt(6 / (width + 4 * width))),
        "patch": (model.patch_embed.proj.weight, math.sqrt(6 / (3 * patch * patch + width))),
    }
    for weight, bound in bounds.values():
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert not block.attn.qkv.bias.any()
    assert not model.patch_embed.proj.bias.any()
    assert 0 < model.cls_token.abs().max() < 1e-5


def test_the_initialization_of_timm_can_be_chosen() -> None:
    cfg = BackboneConfig(image_size=16, args=VIT, init="timm", sincos_positions=False, freeze_patch_embed=False)
    model = build_backbone(cfg).model
    assert all(p.requires_grad for p in model.parameters())
    assert model.pos_embed[0, 0].any()


@register_model  # type: ignore[untyped-decorator]
def limbeck_test_without_taps(pretrained: bool = False, **kwargs: object) -> nn.Module:
    return nn.Identity()


@pytest.mark.parametrize(
    ("cfg", "code", "value"),
    [
        (BackboneConfig(name="resnet19"), "unknown-backbone", "resnet18"),
        (BackboneConfig(name="resnet18.tin"), "unknown-weights", "tin"),
        (BackboneConfig(image_size=30), "image-size-not-a-multiple-of-patch-size", 16),
        (BackboneConfig(name="convnext_atto", small_stem=True), "no-small-stem", "convnext_atto"),
        (BackboneConfig(image_size=16, args=VIT, cut=5), "depth-out-of-range", "1 to 4"),
        (BackboneConfig(name="resnet18", cut=0), "depth-out-of-range", "1 to 4"),
        (BackboneConfig(image_size=16, args=VIT | {"embed_dim": 18}), "invalid-embed-dim", 18),
        (BackboneConfig(args={"dept": 3}), "invalid-backbone-arguments", "dept"),
        (BackboneConfig(name="limbeck_test_without_taps"), "backbone-without-taps", "limbeck_test_without_taps"),
        (BackboneConfig(name="resnet18", per_layer_norm=True), "no-final-norm", "resnet18"),
    ],
)
def test_a_mistake_is_named(cfg: BackboneConfig, code: str, value: object) -> None:
    with raises(code, value):
        build_backbone(cfg)


def test_a_depth_out_of_range_is_named() -> None:
    backbone = build("vit-cls")
    with raises("depth-out-of-range", 5, "1 to 4"):
        backbone(images(backbone), (5,))
    with raises("depth-out-of-range", 0, "1 to 4"):
        backbone.cut(0)
