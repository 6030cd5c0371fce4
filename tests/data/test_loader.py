"""Order, partition, prefetching and resumption of batches."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.core.types import Batch
from limbeck.data.augment.views import View
from limbeck.data.loader import Loader, fitting_batch, prefetch
from limbeck.data.sampling import SamplingPlan, ViewSpec, view_specs
from limbeck.data.store.store import Store
from tests.helpers.errors import raises

VIEWS = view_specs([View(size=8, flip=0.5), View(size=6, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)])
CPU = torch.device("cpu")


def numbered(count: int, labels: bool = True) -> Store:
    """Noise, as many images as asked."""
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return Store.from_arrays(images, np.arange(count) % 4 if labels else None)


def loader(
    count: int = 22, batch_size: int = 8, seed: int = 0, rank: int = 0, world_size: int = 1, accumulate_steps: int = 1
) -> Loader:
    """Return a loader of two views on the CPU."""
    return Loader(
        numbered(count),
        VIEWS,
        batch_size,
        seed=seed,
        device=CPU,
        rank=rank,
        world_size=world_size,
        accumulate_steps=accumulate_steps,
    )


def rows(batches: Iterator[Batch]) -> list[int]:
    """Of all batches, in order."""
    return [int(row) for batch in batches for row in batch.indices]


def by_row(batches: Iterator[Batch]) -> dict[int, torch.Tensor]:
    """Return the first view of each row."""
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
    assert source.steps_per_epoch == 2  # 22 images: 6 sit out
    assert all(len(set(epoch)) == len(epoch) == 16 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert rows(loader(seed=1).batches(0, 2)) != epochs[0]


def test_starting_in_the_middle_gives_the_same_batches() -> None:
    whole, tail = list(loader().batches(0, 5)), list(loader().batches(3, 5))
    for expected, got in zip(whole[3:], tail, strict=True):
        assert torch.equal(expected.indices, got.indices)
        assert all(torch.equal(a, b) for a, b in zip(expected.views, got.views, strict=True))


def test_the_first_steps_have_the_same_views_with_fewer_pixels() -> None:
    """A view without a smaller one, and those of a run that starts in the middle, are what they always are."""
    resized = (replace(VIEWS[0], small=replace(VIEWS[0].augmentation, size=4)), VIEWS[1])
    smaller = (replace(VIEWS[0], augmentation=replace(VIEWS[0].augmentation, size=4)), VIEWS[1])

    def made(views: tuple[ViewSpec, ...], start: int, small_steps: int) -> list[Batch]:
        kinds = Loader(numbered(22), views, 8, seed=0, device=CPU, accumulate_steps=2)
        return list(kinds.batches(start, 4, small_steps))

    found = made(resized, 0, 2)
    expected = [*made(smaller, 0, 0)[:4], *made(VIEWS, 0, 0)[4:]]
    assert [batch.views[0].shape[-1] for batch in found] == [4] * 4 + [8] * 4
    for one, other in [*zip(found, expected, strict=True), *zip(made(resized, 1, 2), found[2:], strict=True)]:
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


@pytest.mark.parametrize(("world_size", "accumulate_steps"), [(2, 1), (1, 2), (2, 2)])
def test_processes_and_micro_batches_share_out_a_batch(world_size: int, accumulate_steps: int) -> None:
    whole = rows(loader().batches(1, 2))
    parts = [
        rows(loader(rank=rank, world_size=world_size, accumulate_steps=accumulate_steps).batches(1, 2))
        for rank in range(world_size)
    ]
    assert sorted(row for part in parts for row in part) == sorted(whole)
    assert all(part == whole[rank::world_size] for rank, part in enumerate(parts))


def test_an_epoch_shows_each_row_once_over_all_processes_and_drops_what_fills_no_batch() -> None:
    """23 images and batches of 6 for 3 processes with 2 micro-batches each: 3 steps, and 5 images wait."""
    parts = [loader(count=23, batch_size=6, rank=rank, world_size=3, accumulate_steps=2) for rank in range(3)]
    one = loader(count=23, batch_size=6, accumulate_steps=2)
    for epoch in range(3):
        steps = range(3 * epoch, 3 * epoch + 3)
        seen = [row for part in parts for step in steps for row in part.indices(step)]
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
    with raises("batch-too-large", 64, 23, 22):
        loader(count=23, batch_size=64, accumulate_steps=2)


def test_fewer_images_than_parts_cannot_be_helped_by_a_smaller_batch() -> None:
    with raises("batch-too-large", 8, 3, "add images"):
        loader(count=3, batch_size=8, world_size=2, accumulate_steps=2)


def test_fewer_images_than_a_batch_fill_a_smaller_one() -> None:
    assert fitting_batch(256, 1000, 1, 1) == 256
    assert fitting_batch(256, 256, 1, 1) == 256
    assert fitting_batch(256, 200, 1, 1) == 128
    assert fitting_batch(256, 200, 3, 2) == 126
    assert fitting_batch(256, 3, 2, 2) == fitting_batch(256, 0, 1, 1) == 0


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does() -> None:
    with raises("batch-not-divisible", 9, 8):
        loader(batch_size=9, world_size=2)


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
    assert source.wait_seconds == 0
    list(source.batches(0, 2))
    assert source.wait_seconds > 0


def test_only_the_given_rows_are_visited() -> None:
    odd = np.arange(1, 22, 2)
    source = Loader(numbered(22), VIEWS, 5, seed=0, device=CPU, sampling=SamplingPlan(indices=odd))
    assert source.steps_per_epoch == 2
    assert set(rows(source.batches(0, 10))) == set(odd.tolist())
    with raises("batch-too-large", 12, 11):
        Loader(numbered(22), VIEWS, 12, seed=0, device=CPU, sampling=SamplingPlan(indices=odd))


def grouped(rank: int = 0, world_size: int = 1) -> Loader:
    """Return a loader of 12 rows with labels and 25 others, in batches of 4, where 5 rows are in neither group."""
    labels = np.where(np.arange(42) < 12, np.arange(42) % 4, -1)
    plan = SamplingPlan(labels=labels, groups=(np.arange(12), np.arange(12, 37)))
    return Loader(numbered(42), VIEWS, 4, seed=0, device=CPU, rank=rank, world_size=world_size, sampling=plan)


def test_batches_of_two_groups_take_turns() -> None:
    """The first group in whole epochs; of the second one as many rows, others in every epoch."""
    found = grouped()
    assert found.steps_per_epoch == 6
    seen: list[set[int]] = []
    for epoch in range(2):
        batches = list(found.batches(6 * epoch, 6 * epoch + 6))
        assert [sorted({bool(row < 12) for row in batch.indices}) for batch in batches] == [[True], [False]] * 3
        assert sorted(rows(iter(batches[::2]))) == list(range(12))
        seen.append({*rows(iter(batches[1::2]))})
        assert len(seen[-1]) == 12
        assert seen[-1] <= {*range(12, 37)}
    assert seen[0] != seen[1]


def test_labels_that_a_plan_leaves_out_are_not_in_a_batch() -> None:
    """Although the store has one for every row."""
    for batch in grouped().batches(0, 6):
        assert batch.labels is not None
        assert batch.labels.tolist() == [row % 4 if row < 12 else -1 for row in batch.indices.tolist()]


def test_processes_share_the_batches_of_groups() -> None:
    whole = list(grouped().batches(0, 6))
    for first, second, batch in zip(*(grouped(rank, 2).batches(0, 6) for rank in (0, 1)), whole, strict=True):
        assert torch.equal(torch.stack([first.indices, second.indices], 1).flatten(), batch.indices)
