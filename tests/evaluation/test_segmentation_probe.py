"""The segmentation probe: separable maps are solved, its loss is a loop, and masks that do not fit are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.masks import MaskPair, read_masks
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metrics import segmentation
from limbeck.evaluation.models import BackboneModel
from limbeck.evaluation.segmentation_probe import SegmentationHead, SegmentationProbe
from tests.helpers.errors import raises
from tests.helpers.shades import CFG, PLAIN
from tests.helpers.tiny import tiny_vit

CPU = torch.device("cpu")


def write(folder: Path, count: int, seed: int) -> Store:
    """Write images whose left or right half is bright, their masks beside them, and return the store."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        mask = np.zeros((20, 30), np.uint8)
        left = int(random.integers(0, 2)) * 15
        mask[:, left : left + 15] = 1
        pixels = np.repeat((60 + 120 * mask + random.integers(0, 30, mask.shape))[..., None], 3, axis=2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        mask[0] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return build_store(folder / "images", folder / "store", store_size=16)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store, Store]:
    folder = tmp_path_factory.mktemp("halves")
    return folder, write(folder / "train", 24, 0), write(folder / "test", 8, 1)


def test_bright_halves_are_found_at_every_depth(halves: tuple[Path, Store, Store]) -> None:
    folder, train, test = halves
    masks = [str(folder / role / "masks") for role in ("train", "test")]
    data = EvalData.of(train, test, replace(CFG, train_masks=masks[0], test_masks=masks[1]))
    assert data.masks is not None
    assert data.masks.classes == 2
    assert set(np.unique(data.masks.test)) == {0, 1, 255}
    torch.manual_seed(0)
    found = segmentation.compute(MetricInputs(BackboneModel("net", tiny_vit(), PLAIN), data))
    assert list(found) == [1, 2, 3]
    assert all(values["mean_iou"] is not None and values["mean_iou"] > 0.7 for values in found.values())


def test_a_step_is_sgd_on_the_mean_over_pixels_that_count() -> None:
    torch.manual_seed(0)
    maps, masks = torch.randn(3, 4, 2, 2), torch.randint(0, 3, (3, 4, 4), dtype=torch.uint8)
    masks[0, :2] = 255
    head = SegmentationProbe(epochs=1, batch_size=3, lr=0.5).fit(maps, masks, 3, CPU)
    fresh = SegmentationHead.fresh(maps, 3, 2, CPU)
    torch.testing.assert_close(fresh.mean[:, 0, 0], maps.mean((0, 2, 3)))
    torch.testing.assert_close(fresh.scale[:, 0, 0], 1 / maps.std((0, 2, 3), correction=0))
    fresh.bias.requires_grad_()
    pixels = fresh.logits(maps, 4).permute(0, 2, 3, 1)[masks != 255]
    labels = masks[masks != 255].tolist()
    loss = -sum(row.log_softmax(0)[label] for row, label in zip(pixels, labels, strict=True)) / len(labels)
    (gradient,) = torch.autograd.grad(loss, [fresh.bias])
    torch.testing.assert_close(head.bias, -0.5 * gradient)


def test_masks_that_do_not_fit_are_refused_before_any_work(halves: tuple[Path, Store, Store], tmp_path: Path) -> None:
    folder, train, test = halves
    with raises("no-masks", "train_masks"):
        replace(CFG, train_masks="masks")
    with raises("no-mask", "nowhere"):
        read_masks(tmp_path / "nowhere", test)
    with raises("no-mask", "0.png", tmp_path):
        EvalData.of(train, test, replace(CFG, train_masks=str(tmp_path), test_masks=str(tmp_path)))
    for number in range(8):
        Image.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / f"{number}.png")
    with raises("one-class", 7, tmp_path):
        EvalData.of(test, test, replace(CFG, train_masks=str(tmp_path), test_masks=str(tmp_path)))
    with raises("labels-differ", 7, "0, 1"):
        EvalData.of(train, test, replace(CFG, train_masks=str(folder / "train/masks"), test_masks=str(tmp_path)))
    Image.new("L", (30, 21)).save(tmp_path / "3.png")
    with raises("mask-size", "30 x 21", "30 x 20"):
        read_masks(tmp_path, test)
    Image.new("RGB", (30, 20)).save(tmp_path / "2.png")
    with raises("not-a-mask", "RGB"):
        read_masks(tmp_path, test)
    (tmp_path / "1.png").write_bytes(b"")
    with raises("not-a-mask", "1.png"):
        read_masks(tmp_path, test)


def test_binary_masks_are_of_two_classes_in_one_bit_and_of_one_with_255(
    halves: tuple[Path, Store, Store], tmp_path: Path
) -> None:
    _, _, test = halves
    inside = np.indices((20, 30)).sum(0) % 7 < 3
    for name, drawn in (("bits", Image.fromarray(inside)), ("bytes", Image.fromarray(np.uint8(255) * inside))):
        (tmp_path / name).mkdir()
        for number in range(8):
            drawn.save(tmp_path / name / f"{number}.png")
    assert np.unique(read_masks(tmp_path / "bits", test)).tolist() == [0, 1]
    with raises("one-class", 255, "bytes"):
        MaskPair.read((tmp_path / "bytes", test), (tmp_path / "bytes", test))
