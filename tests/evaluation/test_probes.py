"""Probes: joint training is separate training, and both protocols give the authors' numbers."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.schedules import cosine
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.probes import (
    AdamProbe,
    GradientProbe,
    JointHeads,
    SGDProbe,
    fit,
    gradient_probe,
    lbfgs_predictions,
    train_heads,
)
from tests.helpers.golden import Golden

CPU = torch.device("cpu")
DIMS = {1: 3, 2: 5, 3: 3, 4: 5}
CLASSES = 4


def separable(rows: int = 50) -> tuple[dict[int, Tensor], Tensor]:
    """Float64 features of four taps, two widths among them, in which the classes are apart."""
    labels = torch.arange(rows) % CLASSES
    generator = torch.Generator().manual_seed(0)
    centres = {tap: torch.randn(CLASSES, dim, generator=generator) for tap, dim in DIMS.items()}
    noise = {tap: torch.randn(rows, dim, generator=generator) for tap, dim in DIMS.items()}
    return {tap: 2 * centres[tap][labels] + 0.1 * noise[tap] for tap in DIMS}, labels


def separate_logits(features: Tensor, labels: Tensor, cfg: SGDProbe) -> Tensor:
    """One nn.Linear trained alone, step by step, from zero."""
    head = nn.Linear(features.shape[1], CLASSES)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    velocity = [torch.zeros_like(parameter) for parameter in head.parameters()]
    order = torch.Generator().manual_seed(cfg.seed)
    base = cfg.lr * cfg.batch_size / 256
    steps = [
        rows for _ in range(cfg.epochs) for rows in torch.randperm(len(labels), generator=order).split(cfg.batch_size)
    ]
    for step, rows in enumerate(steps):
        head.zero_grad()
        F.cross_entropy(head(features[rows]), labels[rows]).backward()
        with torch.no_grad():
            for parameter, moved in zip(head.parameters(), velocity, strict=True):
                assert parameter.grad is not None
                moved.mul_(0.9).add_(parameter.grad)
                parameter.sub_(cosine(base, 0.0, step / len(steps)) * moved)
    return head(features)


def test_joint_probe_equals_separate_probes() -> None:
    features, labels = separable()
    cfg = SGDProbe(epochs=3, batch_size=16, lr=2.0, seed=5)
    heads = fit(cfg, features, labels, CLASSES, CPU)
    for tap, logits in zip(heads.depths, heads(features), strict=True):
        torch.testing.assert_close(logits, separate_logits(features[tap], labels, cfg), rtol=1e-4, atol=1e-5)


def separate_adam(features: Tensor, labels: Tensor, cfg: AdamProbe, weight: Tensor, bias: Tensor) -> Tensor:
    """One linear layer trained alone from these weights, Adam written out; the penalty is part of the gradient."""
    parameters = [weight.clone(), bias.clone()]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    order, count = torch.Generator().manual_seed(cfg.seed), 0
    for epoch in range(cfg.epochs):
        lr = 1e-2 * (1e-6 / 1e-2) ** (epoch / cfg.epochs)
        for rows in torch.randperm(len(labels), generator=order).split(cfg.batch_size):
            count += 1
            x, y = features[rows], F.one_hot(labels[rows], CLASSES)
            error = (F.softmax(x @ parameters[0] + parameters[1], dim=1) - y) / len(rows)
            for p, gradient, (first, second) in zip(parameters, (x.T @ error, error.sum(0)), moments, strict=True):
                gradient = gradient + 5e-6 * p
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient**2)
                p.sub_(lr * (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8))
    return features @ parameters[0] + parameters[1]


def test_joint_adam_equals_separate_adam_by_hand() -> None:
    features, labels = separable()
    double = {depth: values.double() for depth, values in features.items()}
    cfg = AdamProbe(epochs=4, batch_size=16, seed=3)
    heads = cfg.heads(DIMS, CLASSES).double()
    flat = [pair for w, b in zip(heads.weights, heads.biases, strict=True) for pair in zip(w, b, strict=True)]
    start = [(weight.detach().clone(), bias.detach().clone()) for weight, bias in flat]
    generator = torch.Generator().manual_seed(cfg.seed)
    orders = (torch.randperm(len(labels), generator=generator) for _ in range(cfg.epochs))
    train_heads(heads, cfg, double, labels, orders)
    for depth, logits, (weight, bias) in zip(heads.depths, heads(double), start, strict=True):
        expected = separate_adam(double[depth], labels, cfg, weight, bias)
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-11)


def test_adam_equals_the_wmse_authors_in_trajectory_and_gradient(golden: Callable[[str], Golden]) -> None:
    data = golden("wmse_sgd")
    train, test = (torch.from_numpy(data[name]).double() for name in ("x_train", "x_test"))
    labels, predicted = (torch.from_numpy(data[name]).long() for name in ("y_train", "pred"))
    heads = JointHeads({1: train.shape[1]}, classes=5).double()
    with torch.no_grad():
        heads.weights[0].copy_(torch.from_numpy(data["w0"]).T)
        heads.biases[0].copy_(torch.from_numpy(data["b0"]))
    orders = torch.from_numpy(data["perms"]).long()
    rows = orders[0][:1000]
    heads.loss({1: train[rows]}, labels[rows]).backward()
    for parameter, name in ((heads.weights[0], "first_grad_w"), (heads.biases[0], "first_grad_b")):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad[0].T.squeeze(), data[name], rtol=1e-7, atol=1e-12)
    train_heads(heads, AdamProbe(epochs=int(data["epochs"])), {1: train}, labels, orders)
    np.testing.assert_allclose(heads.weights[0].detach()[0].T, data["w_end"], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(heads.biases[0].detach()[0, 0], data["b_end"], rtol=1e-7, atol=1e-9)
    assert heads.accuracy({1: test}, predicted, batch_size=64) == {1: 1.0}


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGDProbe), ("adam", AdamProbe)])
def test_a_probe_has_its_protocols_defaults_unless_the_settings_say_otherwise(
    name: Literal["sgd", "adam"], kind: type[GradientProbe]
) -> None:
    assert gradient_probe(name, EvaluateConfig(seed=3)) == kind(seed=3)  # type: ignore[call-arg]
    cfg = EvaluateConfig(linear_epochs=7, linear_lr=0.5, linear_batch_size=9)
    assert gradient_probe(name, cfg) == kind(epochs=7, lr=0.5, batch_size=9)


def test_accuracy_belongs_to_its_depth() -> None:
    features, labels = separable()
    heads = fit(SGDProbe(epochs=20, batch_size=16, lr=2.0), features, labels, CLASSES, CPU)
    assert heads.accuracy(features, labels, batch_size=7) == dict.fromkeys(DIMS, 1.0)
    shifted = {**features, 3: -features[3]}
    found = heads.accuracy(shifted, labels, batch_size=7)
    assert found[3] < 0.5
    assert found[1] == found[2] == found[4] == 1.0


def test_joint_loss_equals_the_sdssl_authors_in_value_and_gradient(golden: Callable[[str], Golden]) -> None:
    data = golden("sdssl_linear_probe")
    features = {tap: torch.from_numpy(values) for tap, values in enumerate(data["in/features"], start=1)}
    heads = JointHeads(dict.fromkeys(features, 3), classes=1000).double()
    with torch.no_grad():
        heads.weights[0].copy_(torch.from_numpy(data["in/weight"]).transpose(1, 2))
        heads.biases[0].copy_(torch.from_numpy(data["in/bias"])[:, None])
    np.testing.assert_allclose(
        heads(features).detach()[..., :5], data["out/logits_first5classes"], rtol=1e-7, atol=1e-9
    )
    loss = heads.loss(features, torch.from_numpy(data["in/y"]))
    loss.backward()
    assert loss.item() == pytest.approx(float(data["out/loss_sum"]), rel=1e-7)
    gradient = heads.weights[0].grad
    assert gradient is not None
    np.testing.assert_allclose(gradient.flatten(1).norm(dim=1), data["out/grad_weight_norm"], rtol=1e-7, atol=1e-9)


def test_learning_rate_equals_the_sdssl_authors(golden: Callable[[str], Golden]) -> None:
    data = golden("sdssl_linear_probe")
    ours = [cosine(float(data["meta/initial_optimizer_lr"]), 0.0, step / 500) for step in range(500)]
    np.testing.assert_allclose(ours, data["out/lr_schedule_100ep_x5"], rtol=1e-7, atol=1e-12)


def test_lbfgs_equals_the_wmse_authors(golden: Callable[[str], Golden]) -> None:
    data = {name: values for name, values in golden("wmse_lbfgs").items() if name != "sklearn_version"}
    train, train_y, test, test_y, predicted = (
        torch.from_numpy(data[name]) for name in ("x_train", "y_train", "x_test", "y_test", "pred")
    )
    found = lbfgs_predictions(train, train_y, test)
    assert torch.equal(found, predicted)
    assert (found == test_y).double().mean().item() == pytest.approx(float(data["acc"]), abs=1e-7)
