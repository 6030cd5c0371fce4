"""Probes: joint training is separate training, and both protocols give the authors' numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.schedules import cosine
from limbeck.evaluate.probes import JointHeads, SgdConfig, fit_sgd, lbfgs_accuracy
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


def separate_logits(features: Tensor, labels: Tensor, cfg: SgdConfig) -> Tensor:
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
    cfg = SgdConfig(epochs=3, batch_size=16, lr=2.0, seed=5)
    heads = fit_sgd(features, labels, CLASSES, cfg, CPU)
    for tap, logits in zip(heads.taps, heads(features), strict=True):
        torch.testing.assert_close(logits, separate_logits(features[tap], labels, cfg), rtol=1e-4, atol=1e-5)


def test_accuracy_belongs_to_its_tap() -> None:
    features, labels = separable()
    heads = fit_sgd(features, labels, CLASSES, SgdConfig(epochs=20, batch_size=16, lr=2.0), CPU)
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
    assert lbfgs_accuracy(train, train_y, test, predicted) == 1.0
    assert lbfgs_accuracy(train, train_y, test, test_y) == pytest.approx(float(data["acc"]), abs=1e-7)
