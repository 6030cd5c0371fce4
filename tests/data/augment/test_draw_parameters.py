"""Parameters of views: distributed as torchvision's, and a function of (seed, epoch, view, row) alone."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision import transforms

from limbeck.data.augment.draw_parameters import _GOLDEN, Params, _mix, hash_uniforms, sample_params
from limbeck.data.augment.views import View

COUNT = 2000
STRONG = View(
    size=32,
    jitter=(0.8, 0.4, 0.2, 0.1),
    jitter_p=0.8,
    grayscale=0.2,
    blur=0.5,
    blur_sigma=(0.1, 2.0),
    solarize=0.3,
    flip=0.4,
)


def drawn(
    view: View = STRONG, count: int = COUNT, width: int = 32, height: int = 32, store: int | None = None
) -> Params:
    sizes = torch.full((count,), width), torch.full((count,), height)
    return sample_params(view, 0, torch.arange(count), *sizes, store or width, seed=1, epoch=2)


def test_uniforms_follow_the_published_generator() -> None:
    """SplitMix64 from state 1234567: the first numbers that Rosetta Code lists."""
    steps = np.arange(1, 4, dtype=np.uint64) * _GOLDEN
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert _mix(np.array([1234567], np.uint64) + steps).tolist() == expected


def test_uniforms_are_uniform_and_unrelated() -> None:
    u = hash_uniforms(0, 0, 0, np.arange(5000), 8)
    assert u.min() >= 0
    assert u.max() < 1
    assert min(stats.kstest(column, "uniform").pvalue for column in u.T) > 1e-3
    other = [hash_uniforms(*key, np.arange(5000), 8) for key in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (2**63, 0, 0))]
    columns = np.concatenate([u, *other], axis=1)
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 0.07  # five deviations of 1 / sqrt(5000)


def test_a_row_draws_the_same_wherever_it_stands() -> None:
    rows, sizes = torch.arange(50), torch.full((50,), 40)
    whole = sample_params(STRONG, 1, rows, sizes, sizes, 32, seed=5, epoch=7)
    shuffled = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    again = sample_params(STRONG, 1, rows[shuffled], sizes, sizes, 32, seed=5, epoch=7)
    alone = sample_params(STRONG, 1, rows[9:10], sizes[:1], sizes[:1], 32, seed=5, epoch=7)
    for one, two, three in zip(whole, again, alone, strict=True):
        np.testing.assert_array_equal(one[shuffled.numpy()], two)
        np.testing.assert_array_equal(one[9:10], three)


@pytest.mark.parametrize("changed", [{"seed": 6}, {"epoch": 8}, {"view_index": 0}])
def test_every_part_of_the_key_matters(changed: dict[str, int]) -> None:
    rows, sizes = torch.arange(50), torch.full((50,), 40)
    key = {"seed": 5, "epoch": 7, "view_index": 1}

    def boxes(key: dict[str, int]) -> np.ndarray:
        return sample_params(STRONG, rows=rows, widths=sizes, heights=sizes, store_size=32, **key).box

    assert (boxes(key) != boxes(key | changed)).any(axis=1).mean() > 0.9


@pytest.mark.parametrize(
    ("width", "height", "scale", "ratio"),
    [
        (64, 64, (0.08, 1.0), (3 / 4, 4 / 3)),
        (64, 64, (0.05, 0.14), (3 / 4, 4 / 3)),
        (100, 41, (0.2, 1.0), (3 / 4, 4 / 3)),
        (40, 90, (0.5, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_crops_are_distributed_as_torchvisions(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    """Top, left, height and width in original pixels, read back from a store with a whole number of rows for each."""
    store = width * height
    box = drawn(View(size=32, scale=scale, ratio=ratio), width=width, height=height, store=store).box
    ours = box / np.array([width, height, width, height])  # a store pixel is 1/width of an original row
    with torch.random.fork_rng():
        torch.manual_seed(0)
        picture = torch.empty(3, height, width)
        get = transforms.RandomResizedCrop.get_params
        theirs = np.array([get(picture, list(scale), list(ratio)) for _ in range(COUNT)])
    np.testing.assert_array_equal(ours, np.rint(ours))
    for mine, other in zip(ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(mine, other).pvalue > 1e-3


@pytest.mark.parametrize(("width", "height"), [(200, 20), (20, 200)])
def test_crops_that_never_fit_are_central(width: int, height: int) -> None:
    view = View(size=32, scale=(1.0, 1.0))
    expected = transforms.RandomResizedCrop.get_params(torch.empty(3, height, width), [1.0, 1.0], [3 / 4, 4 / 3])
    box = drawn(view, 5, width, height, store=width * height).box / np.array([width, height, width, height])
    np.testing.assert_array_equal(box, [expected] * 5)


def test_boxes_stay_on_the_grid_of_the_store() -> None:
    for width, height, store in itertools.product((9, 500), (7, 31, 400), (8, 32, 256)):
        top, left, rows, columns = drawn(count=300, width=width, height=height, store=store).box.T
        assert min(top.min(), left.min()) >= 0
        assert min(rows.min(), columns.min()) >= 1
        assert max((top + rows).max(), (left + columns).max()) <= store


def test_a_crop_keeps_its_place_when_the_store_is_smaller() -> None:
    """Edges on a store of 64 px lie within half a store pixel of those on a store of the original 512 px."""
    exact = drawn(width=512, height=512, store=512).box
    coarse = drawn(width=512, height=512, store=64).box
    for edges in (lambda b: b[:, :2], lambda b: b[:, :2] + b[:, 2:]):
        assert np.abs(edges(coarse) - edges(exact) / 8).max() <= 0.5


def test_jitter_is_distributed_as_torchvisions() -> None:
    params = drawn()
    theirs = transforms.ColorJitter(*STRONG.jitter)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        many = [
            theirs.get_params(theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue) for _ in range(COUNT)
        ]
    for operation in range(4):
        assert stats.ks_2samp(params.factors[:, operation], [one[1 + operation] for one in many]).pvalue > 1e-3
    orders = list(itertools.permutations(range(4)))
    counts = [int((params.order == order).all(axis=1).sum()) for order in orders]
    assert sum(counts) == COUNT
    assert stats.chisquare(counts).pvalue > 1e-3


def test_strengths_above_one_never_give_negative_factors() -> None:
    assert drawn(View(size=32, jitter=(1.5, 1.5, 1.5, 0.5), jitter_p=1.0)).factors[:, :3].min() >= 0


@pytest.mark.parametrize(
    ("field", "probability"), [("flip", 0.4), ("jitter", 0.8), ("grayscale", 0.2), ("blur", 0.5), ("solarize", 0.3)]
)
def test_probabilities(field: str, probability: float) -> None:
    hits = int(getattr(drawn(), field).sum())
    assert stats.binomtest(hits, COUNT, probability).pvalue > 1e-3


def test_sigma_is_uniform() -> None:
    assert stats.kstest(drawn().sigma, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("probability", "expected"), [(0.0, False), (1.0, True)])
def test_certain_and_impossible(probability: float, expected: bool) -> None:
    view = View(
        size=32, flip=probability, grayscale=probability, blur=probability, solarize=probability, jitter_p=probability
    )
    params = drawn(view)
    for field in (params.flip, params.grayscale, params.blur, params.solarize, params.jitter):
        assert (field == expected).all()
