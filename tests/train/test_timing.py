"""The parts of a step are timed on a copy, with more and more images while time allows."""

from collections.abc import Iterator
from itertools import chain, count

import pytest
import torch
from torch import nn

from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.memory import count_activations
from limbeck.train.timing import StepTimes, Timing, time_steps
from tests.helpers.errors import raises
from tests.helpers.toy import VIEWS, Toy, noise, toy

CFG = TrainConfig(epochs=3, batch_size=32, precision="fp32", accelerator="cpu")


def ticking(seconds: float) -> Iterator[float]:
    """Yield the times of a clock that moves on at every reading."""
    now = 0.0
    while True:
        yield now
        now += seconds


def timed(method: Toy, tick: float, cfg: TrainConfig = CFG) -> Timing:
    """Time a toy with a clock on which every part of a step takes `tick` seconds."""
    return time_steps(method, noise(), VIEWS, cfg, OptimConfig(), budget=60, clock=ticking(tick).__next__)


@pytest.mark.parametrize(("tick", "images"), [(0.1, 32), (1.7, 8), (4.0, 4), (100.0, 4)])
def test_a_slow_step_is_timed_with_fewer_images(tick: float, images: int) -> None:
    found = timed(toy(), tick)
    assert found.images == images
    assert (found.step.images, found.memory.images) == (32, 32)
    assert found.step.update == pytest.approx(tick)
    assert found.step.forward == pytest.approx(tick if images == 32 else tick * 32 / images, rel=0.5)


def test_the_very_first_step_which_loads_libraries_does_not_count() -> None:
    readings = chain([0.0, 0.0, 20.0, 40.0, 40.0, 40.0], (40.0 + 0.1 * reading for reading in count(1)))
    found = time_steps(toy(), noise(), VIEWS, CFG, OptimConfig(), budget=60, clock=readings.__next__)
    assert found.step.forward < 1


@pytest.mark.parametrize(
    ("room", "message"),
    [(12, ["32 images", "--batch-size 8", "--accumulate-steps 4"]), (0, ["32 images", "smaller network"])],
)
def test_a_batch_that_is_too_large_for_the_memory(
    monkeypatch: pytest.MonkeyPatch, room: int, message: list[str]
) -> None:
    def forward(self: Toy, batch: Batch, info: StepInfo) -> LossOutput:
        if len(batch.indices) > room:
            raise torch.cuda.OutOfMemoryError
        return whole(self, batch, info)

    whole = Toy.forward
    monkeypatch.setattr(Toy, "forward", forward)
    with raises("out-of-memory", *message):
        timed(toy(), 0.1)


def test_what_does_not_grow_with_the_batch_is_told_apart() -> None:
    small, large = (StepTimes(n, 1.0 * n, 1 + 0.5 * n, 8.0, 3.0, 100.0 * n) for n in (8, 16))
    found = large.scaled(64, small)
    assert (found.images, found.views, found.forward, found.update, found.activations) == (64, 64.0, 33.0, 3.0, 6400.0)
    assert found.backward == 8 + 48 * 0.5 * 8 / 16  # noise may hide the growth, at most half of it
    assert large.scaled(64, None).forward == 4 * 9
    assert found.times(2).seconds == 2 * (found.seconds - 3) + 3


def test_activations_are_counted_and_weights_are_not() -> None:
    linear = nn.Linear(10, 20)
    with count_activations(linear) as sizes:
        linear(torch.randn(4, 10)).relu()
    assert sorted(sizes.values()) == [4 * 4 * 10, 4 * 4 * 20]  # the input, and the output of the ReLU


def test_micro_batches_are_timed_as_they_are() -> None:
    cfg = TrainConfig(epochs=3, batch_size=32, accumulate_steps=4, precision="fp32", accelerator="cpu")
    assert (found := timed(toy(), 0.1, cfg)).images == 8
    assert found.step.forward == pytest.approx(4 * 0.1)
    assert found.memory.images == 8


def test_nothing_changes() -> None:
    method = toy(kind=Toy)
    torch.manual_seed(3)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    timed(method, 0.1)
    assert all(torch.equal(value, method.state_dict()[name]) for name, value in before.items())
    assert method.clocks == []
    assert all(parameter.grad is None for parameter in method.parameters())
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


class Whitening(Toy):
    """A toy that needs at least 16 images."""

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        if len(batch.indices) < 16:
            raise RuntimeError("not positive definite")
        return super().forward(batch, step_info)


def test_a_method_that_needs_more_images_gets_them() -> None:
    assert timed(toy(kind=Whitening), 100.0).images == 16


def test_an_error_of_a_whole_batch_is_raised() -> None:
    cfg = TrainConfig(epochs=3, batch_size=8, precision="fp32", accelerator="cpu")
    with pytest.raises(RuntimeError, match="not positive definite"):
        timed(toy(kind=Whitening), 0.1, cfg)


def test_a_line_per_part_adds_up() -> None:
    lines = StepTimes(8, 1.0, 2.0, 6.0, 1.0, 0.0).lines()
    assert [line.split()[0] for line in lines] == ["views", "forward", "backward", "update"]
    assert [line.split("(")[1] for line in lines] == ["10%)", "20%)", "60%)", "10%)"]
