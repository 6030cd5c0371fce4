"""Queues against a list of rows: order, wrap-around, pairs of rings, checkpoints."""

import pytest
import torch

from limbeck.models.queue import Queue


def numbered(start: int, count: int) -> dict[str, torch.Tensor]:
    """Return rows that contain their number in both rings."""
    numbers = torch.arange(start, start + count)
    return {"keys": numbers[:, None].float().expand(-1, 3), "labels": numbers}


def test_starts_with_random_unit_rows_and_no_labels() -> None:
    torch.manual_seed(0)
    queue = Queue(50, {"keys": 3, "labels": None})
    torch.testing.assert_close(queue["keys"].norm(dim=1), torch.ones(50))
    assert queue["keys"].mean(dim=0).abs().max() < 0.3
    assert (queue["labels"] == -1).all()


@pytest.mark.parametrize("counts", [[3], [4, 4], [5, 5, 5], [7, 7], [20], [3, 20, 2]])
def test_holds_the_newest_rows(counts: list[int]) -> None:
    """This includes batches that do not divide the queue, wrap around, or are larger than it."""
    queue, start = Queue(8, {"keys": 3, "labels": None}), 0
    for count in counts:
        queue.enqueue(numbered(start, count))
        start += count
    newest = set(range(start)[-8:])
    assert set(queue["labels"].tolist()) - {-1} == newest
    filled = queue["labels"] >= 0
    torch.testing.assert_close(queue["keys"][filled], queue["labels"][filled][:, None].float().expand(-1, 3))
    assert int(queue.num_enqueued) == start


def test_rows_stay_in_place() -> None:
    queue = Queue(8, {"labels": None})
    queue.enqueue({"labels": torch.arange(6)})
    queue.enqueue({"labels": torch.arange(6, 10)})
    assert queue["labels"].tolist() == [8, 9, 2, 3, 4, 5, 6, 7]


def test_a_state_dict_restores_it() -> None:
    queue, restored = (Queue(8, {"keys": 3, "labels": None}) for _ in range(2))
    queue.enqueue(numbered(0, 5))
    restored.load_state_dict(queue.state_dict())
    for each in (queue, restored):
        each.enqueue(numbered(5, 6))
    assert all(torch.equal(queue[name], restored[name]) for name in ("keys", "labels"))


def test_half_precision_is_stored_in_single() -> None:
    queue = Queue(4, {"keys": 2})
    queue.enqueue({"keys": torch.ones(2, 2, dtype=torch.bfloat16)})
    assert queue["keys"].dtype is torch.float32
    assert queue["keys"][:2].tolist() == [[1, 1], [1, 1]]
