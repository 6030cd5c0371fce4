"""Patches that are dropped: which ones, that the rest is computed as by itself, and which networks can do it."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.methods.config.byol import BYOLConfig
from limbeck.models.patch_drop import PATCH_DRAW, PatchDrop, add_patch_drop, check_patch_drop
from tests.helpers.errors import raises
from tests.helpers.tiny import shrink, tiny_vit

ROWS = np.array([7, 3, 11, 4])


def draw(places: Tensor, rows: np.ndarray[Any, Any] = ROWS, views: int = 2, step: int = 5) -> list[Tensor]:
    """Return the numbers of the patches that stay in two passes, by image and view; the input has them as values."""
    drop = PatchDrop(0.5, prefix=1)
    drop.begin(rows, seed=2, step=step)
    tokens = places[None, :, None].expand(views * len(rows), -1, 1)
    return [drop(tokens)[:, :, 0] for _ in range(2)]


def test_an_image_loses_the_same_patches_in_any_batch_and_others_in_the_next_pass() -> None:
    places = torch.arange(17.0)
    whole = draw(places)
    for found in whole:
        assert found.shape == (8, 9)
        assert (found[:, 0] == 0).all(), "the prefix stays"
        assert (found.diff(dim=1) > 0).all()
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0][:4], whole[0][4:]), "each view loses others"
    assert not torch.equal(whole[0], draw(places, step=6)[0])
    for rank in (0, 1):
        for one, part in zip(whole, draw(places, ROWS[rank::2]), strict=True):
            torch.testing.assert_close(part, one.unflatten(0, (2, -1))[:, rank::2].flatten(0, 1), rtol=0, atol=0)


def test_the_rest_is_computed_as_if_there_were_no_other_patches() -> None:
    """Value and gradient in float64, image by image and patch by patch."""
    torch.manual_seed(0)
    vit: Any = tiny_vit().double().train()
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    (drop,) = add_patch_drop(vit, 0.5)
    drop.begin(ROWS, seed=2, step=5)
    found = vit(images, (1, 3)).taps
    weights = {tap: torch.randn_like(vector) for tap, vector in found.items()}
    loss = torch.stack([(weights[tap] * found[tap]).sum() for tap in found]).sum()
    model, expected = vit.model, torch.zeros((), dtype=torch.float64)
    for i, row in enumerate(ROWS):
        numbers = hash_uniforms(2, 5, PATCH_DRAW, np.array([row]), 4)[0].tolist()
        stay = sorted(sorted(range(4), key=numbers.__getitem__)[:2])
        tokens = [model.cls_token[0, 0] + model.pos_embed[0, 0]]
        for place in stay:
            top, left = 8 * (place // 2), 8 * (place % 2)
            patch = model.patch_embed(images[i : i + 1, :, top : top + 8, left : left + 8]).flatten()
            tokens.append(patch + model.pos_embed[0, 1 + place])
        state = torch.stack(tokens)[None]
        for depth, block in enumerate(model.blocks, start=1):
            state = block(state)
            if depth in weights:
                expected = expected + (weights[depth][i] * model.norm(state)[0, 0]).sum()
    torch.testing.assert_close(loss, expected)
    trained = [parameter for parameter in vit.parameters() if parameter.requires_grad]
    grads = [torch.autograd.grad(total, trained, allow_unused=True) for total in (loss, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_evaluation_and_ema_encoders_see_everything() -> None:
    torch.manual_seed(0)
    method = shrink(BYOLConfig()).build(tiny_vit())
    before, images = copy.deepcopy(method), torch.rand(4, 3, 16, 16)
    assert len(add_patch_drop(method, 0.5)) == 1
    torch.testing.assert_close(method.target_encoder()(images).final, before.target_encoder()(images).final)
    assert not torch.equal(method.backbone(images).final, before.backbone(images).final)
    torch.testing.assert_close(method.eval().backbone(images).final, before.eval().backbone(images).final)
    assert method.state_dict().keys() == before.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet18", "eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_networks_that_need_all_of_an_image(name: str) -> None:
    with raises("no-patches-to-drop", name, "--patch-drop-rate"):
        check_patch_drop(name)
