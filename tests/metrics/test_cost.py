"""Costs that can be counted by hand, and the order in which networks are timed."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.metrics import cost
from limbeck.metrics.cost import count_operations, count_parameters, latencies


class Attention(nn.Module):
    """Scaled dot-product attention of an image's rows with themselves."""

    def forward(self, x: Tensor) -> Tensor:
        """[1 C H W] -> [1 C H W]."""
        return F.scaled_dot_product_attention(x, x, x)


def test_a_convolution_costs_two_operations_per_multiplication() -> None:
    network = nn.Conv2d(3, 8, kernel_size=3, padding=1)
    assert count_parameters(network) == 8 * (3 * 9 + 1)
    assert count_operations(network, torch.rand(1, 3, 16, 16)) == 2 * 16 * 16 * 8 * 3 * 9


def test_fused_attention_is_counted_as_its_two_products() -> None:
    assert count_operations(Attention(), torch.rand(1, 3, 16, 8)) == 2 * 3 * (16 * 16 * 8) * 2


class FakeTimer:
    """In place of torch's: the k-th call takes what `network(k)` says, in milliseconds; notes whose turn it was."""

    turns: ClassVar[list[object]] = []

    def __init__(self, statement: str, globals: dict[str, Any], num_threads: int) -> None:
        self.network, self.threads, self.calls = globals["network"], num_threads, 0

    def timeit(self, number: int) -> SimpleNamespace:
        self.turns.append((self.network, self.threads))
        self.calls += 1
        return SimpleNamespace(mean=self.network(self.calls) / 1e3)


def test_networks_take_turns_and_a_busy_moment_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third call of the first network, and the first of the second, is slowed down ten times."""
    monkeypatch.setattr(cost, "Timer", FakeTimer)
    monkeypatch.setattr(FakeTimer, "turns", [])

    def first(call: Any) -> Any:
        return 10.0 if call % 3 == 0 else 1.0

    def second(call: Any) -> Any:
        return 30.0 if call == 1 else 2.0 + call / 10

    monkeypatch.setattr(cost, "MIN_ROUNDS", 5)
    one, other = latencies([first, second], torch.rand(1, 3, 4, 4), threads=2, seconds=0.0)
    assert FakeTimer.turns == [(first, 2), (second, 2)] * 5
    assert one.min_ms == pytest.approx(1.0)
    assert other.min_ms == pytest.approx(2.2)
    assert other.median_ms == pytest.approx(2.4)


def test_there_are_more_rounds_while_there_is_time_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "Timer", FakeTimer)
    monkeypatch.setattr(FakeTimer, "turns", [])
    monkeypatch.setattr(cost, "MAX_ROUNDS", 7)
    latencies([lambda call: 1.0], torch.rand(1, 3, 4, 4), seconds=float("inf"))
    assert len(FakeTimer.turns) == 7


def test_real_networks_are_timed_with_the_threads_that_are_asked_for() -> None:
    used = set()

    class Spy(nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            used.add((torch.get_num_threads(), torch.is_inference_mode_enabled()))
            return super().forward(x)

    (found,) = latencies([Spy()], torch.rand(1, 3, 4, 4), threads=2)
    assert used == {(2, True)}
    assert torch.get_num_threads() == 1
    assert 0 < found.min_ms <= found.median_ms
