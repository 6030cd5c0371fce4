"""Order, partition, prefetching and resumption of batches."""

import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.core.errors import UserError
from limbeck.core.types import Batch
from limbeck.data.augment.views import View
from limbeck.data.loader import Loader, SamplingPlan, prefetch
from limbeck.data.store.store import Store

VIEWS = (View(size=8, flip=0.5), View(size=6, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8))
CPU = torch.device("cpu")


def numbered(count: int, labels: bool = True) -> Store:
    """Noise, as many images as asked."""
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return Store.from_arrays(images, np.arange(count) % 4 if labels else None)


def loader(
    count: int = 22, batch_size: int = 8, seed: int = 0, rank: int = 0, world: int = 1, accumulate_steps: int = 1
) -> Loader:
    """A loader of two views on the CPU."""
    return Loader(
        numbered(count),
        VIEWS,
        batch_size,
        seed=seed,
        device=CPU,
        rank=rank,
        world=world,
        accumulate_steps=accumulate_steps,
    )


def rows(batches: Iterator[Batch]) -> list[int]:
    """Of all batches, in order."""
    return [int(row) for batch in batches for row in batch.indices]


def by_row(batches: Iterator[Batch]) -> dict[int, torch.Tensor]:
    """The first view of each row."""
    return {int(row): view for batch in batches for row, view in zip(batch.indices, batch.views[0], strict=True)}


def test_a_batch_has_what_the_contract_says() -> None:
    batch = next(loader().batches(0, 1))
    assert [view.shape for view in batch.views] == [(8, 3, 8, 8), (8, 3, 6, 6)]
    assert all(view.dtype == torch.float32 for view in batch.views)
    assert batch.indices.dtype == torch.int64
    assert batch.labels is not None
    assert torch.equal(batch.labels, batch.indices % 4)


def test_two_views_of_one_recipe_are_drawn_apart() -> None:
    """Of the images alone, with equal views, every method would have nothing to learn from."""
    source = Loader(numbered(8), (VIEWS[1], VIEWS[1]), 8, seed=0, device=CPU)
    first, second = next(source.batches(0, 1)).views
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_unlabelled_stores_give_no_labels() -> None:
    batches = Loader(numbered(8, labels=False), VIEWS, 8, seed=0, device=CPU).batches(0, 1)
    assert next(batches).labels is None


def test_an_epoch_shows_each_row_at_most_once_in_another_order_each_time() -> None:
    source = loader()
    epochs = [rows(source.batches(start, start + 2)) for start in (0, 2)]
    assert source.steps_per_epoch == 2  # 22 images: the last 6 of the order are left out
    assert all(len(set(epoch)) == len(epoch) == 16 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert rows(loader(seed=1).batches(0, 2)) != epochs[0]


def test_starting_in_the_middle_gives_the_same_batches() -> None:
    whole, tail = list(loader().batches(0, 5)), list(loader().batches(3, 5))
    for expected, got in zip(whole[3:], tail, strict=True):
        assert torch.equal(expected.indices, got.indices)
        assert all(torch.equal(a, b) for a, b in zip(expected.views, got.views, strict=True))


@pytest.mark.parametrize(("world", "accumulate_steps"), [(2, 1), (1, 2), (2, 2)])
def test_processes_and_micro_batches_share_out_a_batch(world: int, accumulate_steps: int) -> None:
    whole = rows(loader().batches(1, 2))
    parts = [
        rows(loader(rank=rank, world=world, accumulate_steps=accumulate_steps).batches(1, 2)) for rank in range(world)
    ]
    assert sorted(row for part in parts for row in part) == sorted(whole)
    assert all(part == whole[rank::world] for rank, part in enumerate(parts))


def test_an_epoch_shows_each_row_once_over_all_processes_and_drops_what_fills_no_batch() -> None:
    """23 images and batches of 6 for 3 processes with 2 micro-batches each: 3 steps, and 5 images wait."""
    parts = [loader(count=23, batch_size=6, rank=rank, world=3, accumulate_steps=2) for rank in range(3)]
    one = loader(count=23, batch_size=6, accumulate_steps=2)
    for epoch in range(3):
        steps = range(3 * epoch, 3 * epoch + 3)
        seen = [row for part in parts for step in steps for row in part.rows(step)]
        assert len(set(seen)) == len(seen) == 18
        micro = [[batch.indices.tolist() for batch in part.batches(steps[0], steps[-1] + 1)] for part in parts]
        joined = [sorted(chain(*rows)) for rows in zip(*micro, strict=True)]
        assert joined == [sorted(batch.indices.tolist()) for batch in one.batches(steps[0], steps[-1] + 1)]


def test_views_depend_neither_on_batch_size_nor_on_micro_batches() -> None:
    whole, small = (
        by_row(loader(count=16).batches(0, 2)),
        by_row(loader(count=16, batch_size=4, accumulate_steps=2).batches(0, 4)),
    )
    assert whole.keys() == small.keys()
    assert all(torch.equal(whole[row], small[row]) for row in whole)


def test_a_memory_map_and_memory_give_the_same(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = Store.from_arrays(np.load(tmp_path / "images.npy", mmap_mode="r"))
    first, second = (
        next(Loader(s, VIEWS, 8, seed=0, device=CPU).batches(0, 1)) for s in (Store.from_arrays(images), mapped)
    )
    assert torch.equal(first.views[0], second.views[0])


def test_too_few_images_names_both_numbers_and_the_largest_batch() -> None:
    with pytest.raises(UserError, match=r"batch of 64 .* there are 23; .* would do is 22"):
        loader(count=23, batch_size=64, accumulate_steps=2)


def test_fewer_images_than_parts_cannot_be_helped_by_a_smaller_batch() -> None:
    with pytest.raises(UserError, match=r"batch of 8 .* there are 3; add images"):
        loader(count=3, batch_size=8, world=2, accumulate_steps=2)


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does() -> None:
    with pytest.raises(UserError, match=r"batch of 9 does not divide .*; take 8"):
        loader(batch_size=9, world=2)


def test_prefetching_keeps_order_and_forwards_errors_in_their_turn() -> None:
    def failing() -> Iterator[int]:
        yield from range(5)
        raise OSError("disk gone")

    items = prefetch(failing())
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(OSError, match="disk gone"):
        next(items)


def test_closing_ends_the_thread_and_reads_no_further_than_the_queue() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    items = prefetch(endless(), depth=2)
    assert next(items) == 0
    items.close()
    assert len(taken) <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("limbeck-prefetch")]


def test_waiting_is_measured() -> None:
    source = loader()
    assert source.waited == 0
    list(source.batches(0, 2))
    assert source.waited > 0


def test_only_the_given_rows_are_visited() -> None:
    kept = np.arange(1, 22, 2)
    source = Loader(numbered(22), VIEWS, 5, seed=0, device=CPU, sampling=SamplingPlan(rows=kept))
    assert source.steps_per_epoch == 2
    assert set(rows(source.batches(0, 10))) == set(kept.tolist())
    with pytest.raises(UserError, match="a batch of 12 needs as many images and there are 11"):
        Loader(numbered(22), VIEWS, 12, seed=0, device=CPU, sampling=SamplingPlan(rows=kept))


def test_mates_come_from_the_bag_and_change_with_the_epoch() -> None:
    bags = np.stack([(np.arange(22) + shift) % 22 for shift in (1, 2, 3)], axis=1).astype(np.int32)
    views = (View(size=8, flip=0.0), View(size=8, flip=0.0, of_partner=True, same_crop_as=0))
    source = Loader(numbered(22), views, 11, seed=0, device=CPU, sampling=SamplingPlan(bags=bags))
    met: dict[int, set[int]] = {row: set() for row in range(22)}
    for batch in source.batches(0, 40):
        assert batch.partner_indices is not None
        for row, mate in zip(batch.indices.tolist(), batch.partner_indices.tolist(), strict=True):
            met[row].add((mate - row) % 22)
    assert all(shifts == {1, 2, 3} for shifts in met.values())


def test_a_mates_view_is_that_which_the_mate_would_have_itself() -> None:
    """So that what a teacher said of a row, kept once, serves the row and its mates."""
    bags = ((np.arange(22) + 1) % 22)[:, None].astype(np.int32)
    views = (View(size=8), View(size=8, of_partner=True, same_crop_as=0))
    batches = list(Loader(numbered(22), views, 22, seed=0, device=CPU, sampling=SamplingPlan(bags=bags)).batches(0, 1))
    own = by_row(iter(batches))
    for batch in batches:
        assert batch.partner_indices is not None
        for mate, view in zip(batch.partner_indices.tolist(), batch.views[1], strict=True):
            assert torch.equal(view, own[mate])


def test_what_a_teacher_sees_is_the_same_crop_and_can_repeat() -> None:
    """View 1 is drawn for the teacher and repeats every second epoch; view 0 is nobody else's and never does."""
    view = View(size=8)
    teacher = View(size=8, for_teacher=True, same_crop_as=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    live, kept = (
        [
            (batch.view_epoch, [v[batch.indices.argsort()] for v in batch.views])
            for batch in Loader(
                numbered(22),
                (view, view, teacher),
                22,
                seed=0,
                device=CPU,
                sampling=SamplingPlan(view_period=view_period),
            ).batches(0, 3)
        ]
        for view_period in (0, 2)
    )
    assert [draw for draw, _ in live] == [0, 1, 2]
    assert [draw for draw, _ in kept] == [0, 1, 0]
    assert [len(views) for _, views in kept] == [2, 2, 2]
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (view.mean, view.std))
    torch.testing.assert_close(live[0][1][1] * std + mean, live[0][1][2], atol=1e-6, rtol=0)
    first, second, third = (views for _, views in kept)
    assert all(torch.equal(a, b) for a, b in zip(first, live[0][1][:2], strict=True))
    assert torch.equal(first[1], third[1])
    assert not torch.equal(first[1], second[1])
    assert not torch.equal(first[0], third[0])


def test_kept_draws_are_those_of_every_seed() -> None:
    views = (View(size=8), View(size=8), View(size=8, for_teacher=True, same_crop_as=1))
    first, second = (
        [v[batch.indices.argsort()] for v in batch.views]
        for seed in (0, 1)
        for batch in Loader(
            numbered(22), views, 22, seed=seed, device=CPU, sampling=SamplingPlan(view_period=2)
        ).batches(0, 1)
    )
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])


def test_a_look_shows_what_learns_alone() -> None:
    views = (View(size=8), View(size=6, for_teacher=True, same_crop_as=0))
    assert [v.shape[-1] for v in Loader(numbered(22), views, 8, seed=0, device=CPU).look(np.arange(4)).views] == [8]
