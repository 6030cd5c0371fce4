"""Copies of images: a function of seed, row and kind, of the same size, and another image than before."""

import numpy as np

from limbeck.data.made_copies import STRONG, make_copy


def test_a_copy_follows_from_seed_row_and_kind() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    for kind in (STRONG, 40, 80):
        first, again = (make_copy(image, kind, 3, 0) for _ in range(2))
        assert first.shape == (32, 32, 3)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, make_copy(image, kind, 4, 0))
        assert not np.array_equal(first, make_copy(image, kind, 3, 1))
        assert not np.array_equal(first, image)


def test_a_crop_holds_the_rest_of_the_area() -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (100, 100, 3)).copy()
    crop = make_copy(ramp, 75, 0, 0)
    assert 45 <= int(crop.max()) - int(crop.min()) <= 51, "half of the side"
