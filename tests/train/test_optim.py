"""Which parameters decay, and that the names give the optimisers that they say."""

from typing import Any

import pytest
import torch
from torch import nn

from limbeck.train.config import OptimConfig, TrainConfig, check_milestones
from limbeck.train.optim import build_optimizer, clip_gradients, parameter_groups, set_learning_rate
from tests.helpers.errors import raises


class Net(nn.Module):
    """A network with a CLS token, a layer, a norm, and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.layer = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.gate_bias = nn.Parameter(torch.ones(2, 2))
        self.frozen = nn.Parameter(torch.ones(4, 4), requires_grad=False)


def test_tensors_of_two_dimensions_decay_except_biases() -> None:
    net = Net()
    decayed, rest = parameter_groups(net.named_parameters(), 0.1)
    assert [id(p) for p in decayed["params"]] == [id(net.cls_token), id(net.layer.weight)]
    assert {id(p) for p in rest["params"]} == {
        id(net.layer.bias),
        id(net.norm.weight),
        id(net.norm.bias),
        id(net.gate_bias),
    }
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


def one_step(cfg: OptimConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight [2 2] and bias [2] after one step of lr 0.5 from ones, with gradients of 2 and 3 everywhere."""
    layer = nn.Linear(2, 2)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    optimizer = build_optimizer(layer, cfg)
    layer.weight.grad, layer.bias.grad = torch.full((2, 2), 2.0), torch.full((2,), 3.0)
    optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


@pytest.mark.parametrize(
    ("cfg", "weight", "bias"),
    [
        (OptimConfig(name="adamw", lr=0.5, weight_decay=0.1), 1 - 0.5 * 0.1 - 0.5, 1 - 0.5),
        # The first step of Adam has length lr whatever the gradient; the decay is part of it, so it adds nothing here.
        (OptimConfig(name="adam", lr=0.5, weight_decay=0.1), 1 - 0.5, 1 - 0.5),
        (OptimConfig(name="sgd", lr=0.5, weight_decay=0.1), 1 - 0.5 * (2 + 0.1), 1 - 0.5 * 3),
        # |w| = 2 and |g| = 4: the rate of the weight is 0.001 * 2 / (4 + 0.1 * 2); the bias is not adapted.
        (OptimConfig(name="lars", lr=0.5, weight_decay=0.1), 1 - 0.5 * 0.001 * 2 / 4.2 * 2.1, 1 - 0.5 * 3),
        (OptimConfig(name="lars", lr=0.5, weight_decay=0.0), 1 - 0.5 * 0.001 * 2 / 4 * 2, 1 - 0.5 * 3),
    ],
)
def test_the_first_step_by_hand(cfg: OptimConfig, weight: float, bias: float) -> None:
    got_weight, got_bias = one_step(cfg)
    torch.testing.assert_close(got_weight, torch.full((2, 2), weight))
    torch.testing.assert_close(got_bias, torch.full((2,), bias))


def test_the_second_step_of_sgd_has_momentum_without_nesterov() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = build_optimizer(layer, OptimConfig(name="sgd", lr=1.0, weight_decay=0.0, momentum=0.5))
    for _ in range(2):
        layer.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert layer.weight.item() == pytest.approx(-(1 + 1.5))


def test_the_rate_is_in_proportion_to_the_batch_and_warms_up_for_a_tenth() -> None:
    run, cfg = TrainConfig(epochs=20, batch_size=1024), OptimConfig(lr=1.5e-4)
    optimizer = build_optimizer(Net(), cfg)
    rates = [set_learning_rate(optimizer, cfg, run, step, steps_per_epoch=5) for step in range(100)]
    assert rates[0] == 0
    assert max(rates) == rates[9] == rates[10] == pytest.approx(6e-4)
    assert rates[99] < 1e-6
    assert all(group["lr"] == rates[99] for group in optimizer.param_groups)


def test_the_rate_drops_at_milestones_and_is_constant_between() -> None:
    run = TrainConfig(epochs=8, batch_size=512, warmup_epochs=0.4)
    cfg = OptimConfig(lr=1.5e-3, milestone_epochs=(4, 6.5), gamma=0.2)
    optimizer = build_optimizer(Net(), cfg)
    rates = [set_learning_rate(optimizer, cfg, run, step, steps_per_epoch=10) for step in range(80)]
    expected = [0.25, 0.5, 0.75] + [1] * 37 + [0.2] * 25 + [0.04] * 15
    assert rates == pytest.approx([3e-3 * share for share in expected])


def test_adam_adds_the_decay_to_the_gradient() -> None:
    """With a gradient of 0, the decay alone moves the weight by a whole step, and leaves the bias."""
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    optimizer = build_optimizer(layer, OptimConfig(name="adam", lr=0.5, weight_decay=0.1))
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 1), torch.zeros(1)
    bias = layer.bias.item()
    optimizer.step()
    assert (layer.weight.item(), layer.bias.item()) == pytest.approx((0.5, bias))


def classified() -> Any:
    """Return a net with a fresh classifier."""
    net: Any = Net()
    net.classifier = nn.Linear(4, 2)
    return net


def test_a_classifier_may_have_a_learning_rate_of_its_own() -> None:
    net, cfg = classified(), OptimConfig(lr=1e-3, head_lr_scale=10.0)
    optimizer = build_optimizer(net, cfg)
    run = TrainConfig(epochs=8, batch_size=512, warmup_epochs=0)
    assert set_learning_rate(optimizer, cfg, run, 0, steps_per_epoch=10) == pytest.approx(2e-3)
    body, rest, weight, bias = optimizer.param_groups
    assert [id(p) for p in (*weight["params"], *bias["params"])] == [id(p) for p in net.classifier.parameters()]
    assert (weight["weight_decay"], bias["weight_decay"]) == (0.1, 0.0)
    assert [group["lr"] for group in (body, rest, weight, bias)] == pytest.approx([2e-3, 2e-3, 2e-2, 2e-2])


def test_without_a_rate_of_its_own_a_classifier_is_in_the_two_groups() -> None:
    net = classified()
    decayed, rest = parameter_groups(net.named_parameters(), 0.1)
    assert {id(p) for p in net.classifier.parameters()} <= {id(p) for p in (*decayed["params"], *rest["params"])}


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_head_that_would_not_learn_is_refused(scale: float) -> None:
    with raises("out-of-range", scale):
        OptimConfig(head_lr_scale=scale)


@pytest.mark.parametrize("gamma", [0.0, -1.0, 2.0])
def test_a_rate_that_rises_or_vanishes_is_refused(gamma: float) -> None:
    with raises("out-of-range", gamma):
        OptimConfig(gamma=gamma)


def test_a_drop_after_the_end_is_refused() -> None:
    check_milestones(OptimConfig(milestone_epochs=(50, 75)), TrainConfig(epochs=100))
    with raises("milestone-after-end", 120, 100):
        check_milestones(OptimConfig(milestone_epochs=(50, 120)), TrainConfig(epochs=100))


@pytest.mark.parametrize(("largest", "expected"), [(None, 1.0), (1.0, 0.2), (10.0, 1.0)])
def test_the_gradient_is_scaled_as_a_whole(largest: float | None, expected: float) -> None:
    a, b, unused = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients([a, b, unused], largest).item() == pytest.approx(5.0)
    assert (a.grad.item(), b.grad.item()) == pytest.approx((3 * expected, 4 * expected), rel=1e-5)
