"""Which draw every view has: the loader and the teacher's cache follow one schedule."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from limbeck.data.augment.views import View
from limbeck.data.loader import Loader
from limbeck.data.sampling import (
    CACHED_VIEW_SEED,
    DrawSchedule,
    SamplingPlan,
    ViewSpec,
    draw_partners,
    epoch_order,
    view_specs,
)
from limbeck.data.store.store import Store
from limbeck.features.images import augmented_images

CPU = torch.device("cpu")
STRONG = View(size=8, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)
STUDENT, OTHER = view_specs([STRONG, View(size=8)])
TEACHER = ViewSpec(augmentation=replace(STRONG, size=12, mean=(0.5, 0.5, 0.5)), network="teacher", crop_of=0)
PARTNER = ViewSpec(augmentation=STRONG, image="partner", crop_of=0)
VIEWS = (STUDENT, OTHER, PARTNER, TEACHER, replace(TEACHER, image="partner"))
STORE = Store.from_arrays(np.random.default_rng(0).integers(0, 256, (22, 16, 16, 3), dtype=np.uint8))
BAGS = np.stack([(np.arange(22) + shift) % 22 for shift in (1, 2, 3)], axis=1).astype(np.int32)


def test_without_a_period_every_view_is_of_the_seed_and_the_epoch() -> None:
    schedule = DrawSchedule(VIEWS, seed=5)
    assert {schedule.seed_and_epoch(index, 7) for index in range(5)} == {(5, 7)}
    assert [schedule.draw_index(index) for index in range(5)] == [0, 1, 0, 0, 0]
    assert schedule.view_epoch(7) == 7
    assert schedule.computed() == [0, 1, 2, 3, 4]


def test_with_a_period_the_views_that_the_teacher_shares_repeat_for_every_seed() -> None:
    schedule = DrawSchedule(VIEWS, seed=5, view_period=3)
    repeated = (CACHED_VIEW_SEED, 1)
    assert [schedule.seed_and_epoch(index, 7) for index in range(5)] == [repeated, (5, 7), *[repeated] * 3]
    assert [schedule.view_epoch(epoch) for epoch in range(5)] == [0, 1, 2, 0, 1]
    assert schedule.computed() == [0, 1, 2]
    assert schedule.teacher_views() == {0: TEACHER.augmentation}


@pytest.mark.parametrize("period", [0, 1, 2])
def test_the_loader_shows_the_views_that_a_cache_computes(period: int) -> None:
    """For every image, its partner and every epoch, in whatever batch: by the definition of a pass over the store."""
    loader = Loader(STORE, VIEWS, 11, seed=5, device=CPU, sampling=SamplingPlan(bags=BAGS, view_period=period))
    for step, batch in enumerate(loader.batches(0, 6)):
        epoch = step // loader.steps_per_epoch
        assert batch.view_epoch == (epoch % period if period else epoch)
        assert batch.partner_indices is not None
        rows = {"own": batch.indices.numpy(), "partner": batch.partner_indices.numpy()}
        for index, view in zip(loader.schedule.computed(), batch.views, strict=True):
            spec = VIEWS[index]
            seed, drawn = loader.schedule.seed_and_epoch(index, epoch)
            images = augmented_images(STORE, spec.augmentation, loader.schedule.draw_index(index), CPU, seed, drawn)
            assert torch.equal(view, images(rows[spec.image]))


def test_a_fixed_batch_has_the_students_views_and_the_teachers_on_demand() -> None:
    loader = Loader(STORE, VIEWS, 11, seed=5, device=CPU, sampling=SamplingPlan(bags=BAGS, view_period=2))
    rows = np.arange(4)
    student, both = loader.fixed_batch(rows), loader.fixed_batch(rows, teacher_views=True)
    assert [view.shape[-1] for view in student.views] == [8, 8, 8]
    assert [view.shape[-1] for view in both.views] == [8, 8, 8, 12, 12]
    assert all(torch.equal(a, b) for a, b in zip(student.views, both.views[:3], strict=True))
    cached = augmented_images(STORE, TEACHER.augmentation, 0, CPU, CACHED_VIEW_SEED, 0)
    assert torch.equal(both.views[3], cached(rows))


def test_an_epoch_is_a_permutation_of_its_own() -> None:
    orders = [epoch_order(50, 10, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3


@pytest.mark.parametrize(("count", "batch"), [(22, 8), (1000, 256), (7, 4), (50, 10)])
def test_images_that_fill_no_batch_take_turns(count: int, batch: int) -> None:
    visits = np.zeros(count, int)
    for epoch in range(25):
        order = epoch_order(count, batch, 3, epoch)
        assert len(set(order.tolist())) == len(order) == count // batch * batch
        visits[order] += 1
        assert visits.max() - visits.min() <= 1


def test_the_first_epoch_leaves_out_the_end_of_its_order() -> None:
    np.testing.assert_array_equal(epoch_order(22, 8, 5, 0), np.random.default_rng((5, 0)).permutation(22)[:16])
    np.testing.assert_array_equal(epoch_order(24, 8, 5, 4), np.random.default_rng((5, 4)).permutation(24))


def test_partners_come_from_the_bag_and_change_with_the_epoch_and_the_seed() -> None:
    rows = np.arange(22)
    drawn = {(seed, epoch): draw_partners(BAGS, rows, seed, epoch) for seed in (0, 1) for epoch in range(40)}
    shifts = np.stack([(partners - rows) % 22 for partners in drawn.values()])
    assert all(set(column.tolist()) == {1, 2, 3} for column in shifts.T)
    assert len({tuple(partners.tolist()) for partners in drawn.values()}) == 80
    np.testing.assert_array_equal(draw_partners(BAGS, rows[[9, 4]], 0, 3), drawn[0, 3][[9, 4]])
