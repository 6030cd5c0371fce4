"""The plain CNN: its definition, its cuts, and its files with and without Limbeck."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, load, save_encoder
from limbeck.models.plain_cnn import NAME
from tests.helpers.errors import raises
from tests.helpers.forks import run_module

CFG = BackboneConfig(name=NAME, image_size=32, args={"stem_width": 4, "channels": [8, 16], "depths": [1, 2]})
HOW = Preprocessing(image_size=32, store_size=32, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def pixels(count: int = 2, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(side))


@torch.no_grad()
def test_it_is_convolutions_norms_and_maxima_in_turn() -> None:
    model = build_backbone(CFG).double().eval().model
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    weights = model.state_dict()

    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.conv.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(weights[f"{name}.bn.{key}"] for key in names)).relu()

    images = pixels().double()
    x = layer("stages.0.0.1", layer("stem", images, stride=2))
    x = F.max_pool2d(x, 2)
    for block in (0, 1):
        x = layer(f"stages.1.{block}.1", x)
    torch.testing.assert_close(model(images), x.mean(dim=(2, 3)))


@pytest.mark.parametrize("depth", [1, 2])
@torch.no_grad()
def test_every_depth_is_a_file_that_needs_no_limbeck(depth: int, tmp_path: Path) -> None:
    whole, images = build_backbone(CFG).eval(), pixels()
    cut = whole.cut(depth)
    torch.testing.assert_close(cut(images).final, whole(images, [depth]).taps[depth])
    save_encoder(cut, tmp_path, HOW, {})
    torch.testing.assert_close(load(tmp_path).eval()(images).final, cut(images).final)
    torch.save(images, tmp_path / "images.pt")
    (tmp_path / "program.py").write_text(
        "import sys, torch; sys.modules['limbeck'] = None; from model import load\n"
        "print(load('.')(torch.load('images.pt'))[0, 0].item())"
    )
    assert float(run_module(tmp_path, "program")) == pytest.approx(cut(images).final[0, 0].item(), rel=1e-3)
    with pytest.raises(RuntimeError):  # timm does not know the name of such a file
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ({"channels": [16, -8], "depths": [1, 1]}, "-8"),
        ({"channels": [16, 12], "depths": [1, 1]}, "12"),
        ({"channels": [16, 32]}, "(1, 2, 1)"),
        ({"channels": "abc"}, "abc"),
        ({"stem_width": 0}, "stem_width is 0"),
        ({"stem_pool": "mean"}, "'mean'"),
    ],
)
def test_other_arguments_are_refused(args: dict[str, Any], value: str) -> None:
    with raises("invalid-backbone-arguments", value):
        build_backbone(BackboneConfig(name=NAME, args=args))
