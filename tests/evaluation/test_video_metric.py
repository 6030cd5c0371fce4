"""Video segmentation: an object of a color of its own is followed, and videos that do not fit are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.videos import open_videos
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metrics import video
from limbeck.evaluation.models import BackboneModel
from limbeck.evaluation.references import PIXELS, FixedModel, fixed_models
from limbeck.models.any_size import any_size
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from tests.helpers.errors import raises
from tests.helpers.shades import CFG, PLAIN, shades, tiny_resnet
from tests.helpers.tiny import SIZE, tiny_vit

HEIGHT, WIDTH = 64, 96


def write(folder: Path, name: str = "a", frames: str = "frames", masks: str = "masks", count: int = 4) -> Path:
    """Write a video of noise with two squares of a color of their own, which move."""
    random = np.random.default_rng(0)
    ground = random.integers(60, 120, (HEIGHT, WIDTH, 3))
    for index in range(count):
        pixels, mask = ground.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        for number, top in ((1, 0), (2, 32)):
            place = slice(top, top + 32), slice(8 + 8 * index, 40 + 8 * index)
            mask[place] = number
            pixels[place] = (250, 20, 20) if number == 1 else (20, 20, 250)
        for part, array in ((frames, pixels.astype(np.uint8)), (masks, mask)):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / part / name / f"{index:05}.png")
    return folder


def inputs(folder: Path, model: BackboneModel | None = None) -> MetricInputs:
    cfg = replace(CFG, videos=str(folder), video_side=128)
    data = EvalData.of(shades(6, 0), shades(6, 1), cfg)
    return MetricInputs(model or BackboneModel("net", tiny_vit(), PLAIN), data)


def test_objects_with_a_color_of_their_own_are_followed_by_pixels_and_by_networks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = inputs(write(tmp_path))
    pixels = next(fixed_models(given.data))
    assert isinstance(pixels, FixedModel)
    assert pixels.name == PIXELS
    for model, depths in (
        (pixels, [0]),
        (given.model, [1, 2, 3]),
        (BackboneModel("cnn", tiny_resnet(), PLAIN, [1]), [1]),
    ):
        found = video.compute(MetricInputs(model, given.data))
        assert list(found) == depths
        best = max(values["video_j"] or 0 for values in found.values())
        assert best > 0.5, model.name
        for values in found.values():
            assert values["video_jf"] == pytest.approx(((values["video_j"] or 0) + (values["video_f"] or 0)) / 2)
            assert values.keys() == {column.name for column in video.METRIC.columns}


def test_without_videos_there_is_no_column() -> None:
    data = EvalData.of(shades(6, 0), shades(6, 1), CFG)
    assert video.compute(MetricInputs(BackboneModel("net", tiny_vit(), PLAIN), data)) == {}


def test_frames_are_as_large_as_the_protocol_has_them() -> None:
    assert video.frame_size(480, 854, 480, 16) == (480, 832)
    assert video.frame_size(1080, 1920, 480, 8) == (480, 832)
    assert video.frame_size(854, 480, 480, 14) == (840, 476)
    assert video.frame_size(100, 100, 64, 32) == (64, 64)


def test_a_network_of_one_size_takes_frames_with_the_same_features_at_its_own() -> None:
    args = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", image_size=SIZE, args=args)).eval()
    images = torch.randn(2, 3, SIZE, SIZE)
    free = any_size(backbone).eval()
    with torch.no_grad():
        torch.testing.assert_close(free(images).final, backbone(images).final)
        assert free(torch.randn(1, 3, 24, 40), (2,), feature_maps=True).feature_maps[2].shape == (1, 16, 3, 5)
    with raises("one-image-size", "swin"):
        name = "swin_tiny_patch4_window7_224"
        narrow = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
        any_size(build_backbone(BackboneConfig(name=name, args=narrow)))


def test_folders_of_davis_and_plain_ones_are_found(tmp_path: Path) -> None:
    write(tmp_path / "davis", "bear", "JPEGImages/480p", "Annotations/480p", count=3)
    (found,) = open_videos(tmp_path / "davis")
    assert (found.name, len(found.frames), found.objects) == ("bear", 3, 2)
    assert found.frame(0).shape == (HEIGHT, WIDTH, 3)


def test_videos_that_do_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    with raises("no-videos", tmp_path, "Annotations"):
        inputs(tmp_path)
    with raises("too-few-frames", "short", 2):
        inputs(write(tmp_path / "few", "short", count=2))
    folder = write(tmp_path / "b")
    mask, frame = folder / "masks/a/00002.png", folder / "frames/a/00002.png"
    Image.new("L", (WIDTH, HEIGHT + 1)).save(mask)
    with raises("mask-size", mask, f"{WIDTH} x {HEIGHT + 1}", f"{WIDTH} x {HEIGHT}"):
        inputs(folder)
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(frame)
    with raises("frame-size", f"{WIDTH} x {HEIGHT + 1}"):
        inputs(folder)
    Image.new("RGB", (WIDTH, HEIGHT)).save(frame)
    mask.unlink()
    with raises("no-mask", mask):
        inputs(folder)
    Image.new("L", (WIDTH, HEIGHT)).save(mask)
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "masks/a/00000.png")
    with raises("no-classes", "00000.png"):
        inputs(folder)
    Image.new("L", (WIDTH, HEIGHT), 255).save(folder / "masks/a/00000.png")
    with raises("no-classes", "00000.png", 255):
        inputs(folder)
    (folder / "frames/a/00001.png").write_bytes(b"x")
    with raises("unreadable-frame", "00001.png"):
        inputs(folder)
    with raises("value-out-of-range", "video_side", 10):
        replace(CFG, video_side=10)
