"""Runs that see fewer pixels: smaller views in the first steps, and ViTs that leave out patches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.data.sampling import ViewSpec
from limbeck.methods import method_config
from limbeck.modalities.images.resolve import with_small_views
from limbeck.models.config import BackboneConfig
from limbeck.runs.config import read_config
from limbeck.train.config import TrainConfig
from tests.helpers.commands import Run
from tests.helpers.distill import CUSTOM, NARROW, TRAINING, distill_digits, images, small
from tests.helpers.errors import raises

VIT = BackboneConfig(name="vit_tiny_patch16_224", image_size=28, args={"patch_size": 7})
CNN = BackboneConfig(name="resnet18", image_size=96)
TINY = '{"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}'


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the stores and caches that runs build out of the user's own folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def sides(views: tuple[ViewSpec, ...]) -> list[int | None]:
    return [view.small.size if view.small else None for view in views]


def test_smaller_views_suit_the_network_and_differ_in_nothing_else() -> None:
    views = method_config("dino")().make_views(96)
    made = with_small_views(views, 0.5, CNN)
    assert [view.augmentation.size for view in views] == [96] * 2 + [40] * 8
    assert sides(made) == [48] * 2 + [16] * 8
    for view in made:
        assert view.small is not None
        share = view.small.size / view.augmentation.size
        assert view.small.blur_sigma == pytest.approx([share * sigma for sigma in view.augmentation.blur_sigma])
        full = view.augmentation
        assert replace(view.small, size=full.size, blur_sigma=full.blur_sigma) == full
    assert sides(with_small_views(method_config("byol")().make_views(28), 0.6, VIT)) == [14, 14]
    with raises("no-effect", 14, "--progressive-resizing"):
        coarse = replace(VIT, image_size=14, args={"patch_size": 14})
        with_small_views(method_config("byol")().make_views(14), 0.5, coarse)


def test_the_teacher_sees_the_pixels_that_it_always_does(tmp_path: Path) -> None:
    """Its answers for whole images and for kept draws of a view, live and from a cache."""
    views = method_config("simreg")().make_views(16)
    assert sides(with_small_views(views, 0.5, replace(CNN, image_size=16))) == [8, None]
    training = replace(TRAINING, progressive_resizing=0.5, eval_every_epochs=0, health_every_steps=0)
    for name, teacher in (("live", CUSTOM), ("kept", replace(CUSTOM, cached_views=1))):
        run = distill_digits(tmp_path / name, teacher, method=small("simreg"), training=training)
        assert read_config(run).training.progressive_resizing == 0.5


def test_the_command_line_says_what_a_run_sees(limbeck: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", images=images()[0])
    vit = ("--backbone", VIT.name, "--backbone.args", TINY, "--method", "byol", "--method.hidden", "16")
    fewer = ("--progressive-resizing", "0.6", "--patch-drop-rate", "0.5")
    shared = (tmp_path / "digits.npz", *vit, *fewer, "--epochs", "2", "--batch-size", "20")
    code, _, err = limbeck("pretrain", *shared, "--out", tmp_path / "run")
    assert code == 0, err
    for told in ("8 pixels", "16", "60%", "50%", "(--progressive-resizing", "(--patch-drop-rate"):
        assert told in err
    network = read_config(tmp_path / "run").backbone
    assert isinstance(network, BackboneConfig)
    assert network.args["dynamic_img_size"]
    code, _, err = limbeck("plan", *shared)
    assert code == 0, err
    resnet = ("--backbone", "resnet18", "--backbone.args", str(NARROW).replace("'", '"'))
    code, _, err = limbeck("pretrain", tmp_path / "digits.npz", *resnet, "--patch-drop-rate", "0.5", "--epochs", "1")
    assert code != 0
    assert len(err.strip().splitlines()) == 1
    assert "resnet18" in err


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"progressive_resizing": 1.0}, "out-of-range"),
        ({"patch_drop_rate": -0.1}, "out-of-range"),
        ({"progressive_resizing": 0.5, "initial_scale": 1.5}, "out-of-range"),
        ({"initial_scale": 0.3}, "no-effect"),
    ],
)
def test_shares_that_make_no_sense(settings: dict[str, Any], code: str) -> None:
    with raises(code):
        TrainConfig(**settings)


def test_maps_have_no_holes(limbeck: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", images=images()[0])
    student = ("--student", VIT.name, "--student.args", TINY, "--method.dense-weight", "1")
    code, _, err = limbeck(
        "distill", tmp_path / "digits.npz", "--teacher", "patch-filters", *student, "--patch-drop-rate", "0.5"
    )
    assert code != 0
    assert "--method.dense-weight" in err


def test_series_have_no_pixels(limbeck: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "waves.npz", series=np.random.default_rng(0).normal(size=(32, 40, 1)))
    for flag in ("--progressive-resizing", "--patch-drop-rate"):
        code, _, err = limbeck("pretrain", tmp_path / "waves.npz", flag, "0.5", "--out", tmp_path / "run")
        assert code != 0
        assert flag in err
