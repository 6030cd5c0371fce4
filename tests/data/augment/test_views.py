"""Presets: the constants of the papers, the small-image variants, and mistakes."""

import pytest

from limbeck.core.errors import UserError
from limbeck.data.augment.views import PRESETS, View, preset


def test_byol_is_the_asymmetric_pair_of_sdssl() -> None:
    first, second = preset("byol", 224)
    assert (first.blur, second.blur) == (1.0, 0.1)
    assert (first.solarize, second.solarize) == (0.0, 0.2)
    for view in (first, second):
        assert view.scale == (0.08, 1.0)
        assert (view.jitter, view.jitter_p, view.grayscale) == ((0.4, 0.4, 0.2, 0.1), 0.8, 0.2)
        assert (view.blur_sigma, view.flip) == ((0.1, 2.0), 0.5)


def test_wmse_follows_the_authors_two_recipes() -> None:
    small, large = preset("wmse", 32)[0], preset("wmse", 224)[0]
    assert small.jitter_first
    assert large.jitter_first
    assert (small.scale, small.jitter, small.grayscale, small.blur) == ((0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 0.1, 0.0)
    assert (large.scale, large.jitter, large.grayscale, large.blur) == ((0.08, 1.0), (0.8, 0.8, 0.8, 0.2), 0.2, 0.5)


def test_simclr_halves_its_colour_strength_on_small_images() -> None:
    assert preset("simclr", 224)[0].jitter == (0.8, 0.8, 0.8, 0.2)
    assert preset("simclr", 32)[0].jitter == (0.4, 0.4, 0.4, 0.1)


def test_multicrop_has_two_global_and_six_local_views() -> None:
    assert [view.size for view in preset("multicrop", 224)] == [224] * 2 + [96] * 6
    assert [view.scale for view in preset("multicrop", 224)] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 6
    assert [view.size for view in preset("multicrop", 32)] == [32] * 2 + [16] * 6


def test_weak_views_change_no_colour() -> None:
    assert preset("weak", 64) == (View(size=64, scale=(0.2, 1.0)),) * 2


@pytest.mark.parametrize("name", PRESETS)
def test_small_images_are_never_blurred(name: str) -> None:
    assert all(view.blur == 0 for view in preset(name, 64))
    assert preset(name, 64)[0].size == 64


@pytest.mark.parametrize(
    ("name", "size", "message"), [("simcrl", 32, "did you mean 'simclr'"), ("byol", 4, "at least 8")]
)
def test_mistakes_are_explained(name: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset(name, size)
