"""Views and masks of series: their definition, the authors' numbers, and that they follow from four numbers alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from limbeck.data.augment.span_mask import SpanMask
from limbeck.data.sampling import SamplingPlan
from limbeck.methods import method_config
from limbeck.methods.config.masked import MaskedConfig
from limbeck.modalities.series import MODALITY
from limbeck.series.data import SeriesData
from limbeck.series.loader import SeriesLoader
from limbeck.series.masks import hidden_steps
from limbeck.series.views import VIEWS, Normalization, SeriesView, draw_view
from tests.helpers.errors import raises
from tests.helpers.golden import Golden
from tests.helpers.tiny import configs
from tests.helpers.tiny_series import CPU, tiny_encoder, waves

ROWS = np.arange(400)
HOW = Normalization(mean=np.zeros(3, np.float32), std=np.array([1, 2, 4], np.float32))
RAMP = np.broadcast_to(np.arange(1, 41, dtype=np.float32)[:, None], (400, 40, 3))


def drawn(view: SeriesView, values: np.ndarray = RAMP, **changes: int) -> np.ndarray:
    settings = {"seed": 1, "epoch": 2, **changes}
    return draw_view(view, 0, values, ROWS[: len(values)], HOW, **settings).values


def test_spans_are_those_of_the_definition(golden: Callable[[str], Golden]) -> None:
    numbers = golden("span_mask")
    found = hidden_steps(numbers["u"], numbers["present"], int(numbers["span"]))
    assert np.array_equal(found, numbers["mask"])
    assert SpanMask(share=float(numbers["share"]), span=5).spans(int(numbers["length"])) + 1 == numbers["u"].shape[1]
    assert [SpanMask(share=0.5).steps_of_span(steps) for steps in (9, 60, 1000)] == [2, 5, 10]


def test_a_series_always_has_hidden_and_visible_steps() -> None:
    present = np.zeros((3, 8), bool)
    present[0, 2:4] = present[1, :] = present[2, 5] = True
    mask = hidden_steps(np.array([[0.3, 0.9], [0.0, 0.2], [0.9, 0.0]]), present, 8)
    assert mask.sum(axis=1).tolist() == [1, 7, 1]
    assert not (mask & ~present).any()


def test_the_share_of_hidden_steps_is_that_of_overlapping_spans() -> None:
    view = SeriesView(spans=SpanMask(share=0.5))
    mask = draw_view(view, 0, RAMP, ROWS, HOW, seed=0, epoch=0).mask
    assert mask is not None
    assert abs(mask.mean() - (1 - np.exp(-0.5))) < 3 * mask.mean(axis=1).std() / np.sqrt(len(mask)) + 0.03


@pytest.mark.parametrize("name", VIEWS)
def test_every_strength_does_what_its_name_says(name: str) -> None:
    view = VIEWS[name]
    found = drawn(view)
    kept = ~np.isnan(found).any(axis=2)
    shares = kept.mean(axis=1)
    assert (kept.all() and np.array_equal(found, RAMP)) or name != "whole"
    if view.crop != (1.0, 1.0):
        assert shares.min() >= 0.5 - 1 / 40 - view.time_mask
        assert shares.max() > 0.9
        assert 0.6 < shares.mean() < 0.8
    if not view.channel_drop and name != "whole":
        noise = (found - RAMP)[kept].std(axis=0) / HOW.std
        assert np.allclose(noise, view.jitter, rtol=0.05)


def test_scaling_masking_and_dropping() -> None:
    factors = drawn(SeriesView(scaling=0.5)) / RAMP
    assert np.allclose(factors, factors[:, :1, :1])
    assert 0.5 <= factors.min() < 0.55 < 1.45 < factors.max() <= 1.5
    gone = np.isnan(drawn(SeriesView(time_mask=0.25))).all(axis=2).sum(axis=1)
    assert (gone.min(), gone.max()) == (0, 9)
    dropped = (drawn(SeriesView(channel_drop=0.5)) == 0).all(axis=1)
    assert dropped.sum(axis=1).max() == 2
    assert 0.3 < dropped.mean() < 0.5


def test_missing_steps_stay_missing_and_every_view_has_steps() -> None:
    data = waves(40)
    short = SeriesData(np.concatenate([data.values[:, :4], np.full((40, 16, 2), np.nan)], axis=1))
    unit = Normalization(mean=np.zeros(2, np.float32), std=np.ones(2, np.float32))
    for values in (data.values, short.values):
        found = draw_view(VIEWS["strong-crops"], 0, values, np.arange(40), unit, seed=0, epoch=0).values
        assert not (~np.isnan(found) & np.isnan(values)).any()
        assert (~np.isnan(found).any(axis=2)).sum(axis=1).min() >= 2


def loader(rank: int = 0, world_size: int = 1, seed: int = 5) -> SeriesLoader:
    views = (VIEWS["strong-crops"], SeriesView(spans=SpanMask(share=0.5)))
    return SeriesLoader(waves(32), views, 16, seed=seed, device=CPU, rank=rank, world_size=world_size)


def test_views_and_masks_follow_from_seed_epoch_view_and_row() -> None:
    state = torch.get_rng_state()
    whole = list(loader().batches(0, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for rank in range(2):
        for batch, part in zip(whole, loader(rank, 2).batches(0, 4), strict=True):
            assert torch.equal(batch.indices[rank::2], part.indices)
            for one, other in zip((*batch.views, *batch.masks), (*part.views, *part.masks), strict=True):
                assert torch.equal(one[rank::2].nan_to_num(7), other.nan_to_num(7))
    rows = whole[0].indices.numpy()
    assert torch.equal(loader().fixed_batch(rows[::-1].copy()).masks[0], whole[0].masks[0].flip(0))
    assert not torch.equal(loader(seed=6).fixed_batch(rows).masks[0], whole[0].masks[0])
    assert not torch.equal(whole[0].masks[0], whole[2].masks[0])


def test_batches_have_the_labels_of_the_plan() -> None:
    plan = SamplingPlan(indices=np.arange(16), labels=np.full(32, -1))
    found = next(SeriesLoader(waves(32), (SeriesView(),), 8, seed=0, device=CPU, sampling=plan).batches(0, 1))
    assert found.labels is not None
    assert (int(found.labels.max()), int(found.indices.max()) < 16, found.masks) == (-1, True, ())


def test_a_method_gets_as_many_views_as_of_images() -> None:
    cfg = tiny_encoder().cfg
    counts = [
        len(MODALITY.make_views(configs()[name], cfg)) for name in ("masked", "simclr", "dino", "sdssl-byol", "simreg")
    ]
    assert counts == [1, 2, 10, 2, 2]
    with raises("method-not-for-data", "bingo"):
        MODALITY.make_views(configs()["bingo"], cfg)
    assert MODALITY.make_views(MaskedConfig(mask_span=3), cfg) == (SeriesView(spans=SpanMask(share=0.5, span=3)),)
    simclr = method_config("simclr")()
    assert MODALITY.describe_views(simclr) == ", views 'noisy-crops'"
    strong = method_config("simclr")(views="strong-crops")  # type: ignore[call-arg]
    assert MODALITY.make_views(strong, cfg) == (VIEWS["strong-crops"],) * 2
    for name, preset in (("masked", "whole"), ("simclr", "noisy-crops"), ("simreg", "noisy-crops")):
        assert MODALITY.with_named_views(configs()[name]).views == preset
    host = getattr(MODALITY.with_named_views(configs()["sdssl-byol"]), "host")  # noqa: B009
    assert host.views == "noisy-crops"
    with raises("unknown-views", "weak", "noisy-crops"):
        MODALITY.make_views(method_config("simclr")(views="weak"), cfg)  # type: ignore[call-arg]
    with raises("span-too-long", 20, 19):
        SeriesLoader(waves(32), (SeriesView(spans=SpanMask(share=0.5, span=20)),), 8, seed=0, device=CPU)
