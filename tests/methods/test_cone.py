"""CoNe: the authors' numbers, several steps with the queue, invalid options."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.types import Batch, DataContext, LossOutput, StepInfo
from limbeck.methods import HostConfig, MethodConfig
from limbeck.methods.cone import CoNe
from limbeck.methods.config.cone import CoNeConfig
from tests.helpers.errors import raises
from tests.helpers.golden import assert_allclose
from tests.helpers.tiny import CONTEXT, Flat

Golden = dict[str, np.ndarray]
QUEUE, CLASSES, BATCH = 12, 4, 5
RESOLVED = CoNeConfig(
    dim=6,
    projector_layers=1,
    queue_size=QUEUE,
    num_neighbors=5,
    num_classes=CLASSES,
    warmup_steps=0,
    ema_momentum=0.9,
    label_smoothing=0.1,
)

SMALL = CoNeConfig(queue_size=48, num_neighbors=8)


def cone(config: CoNeConfig = RESOLVED) -> CoNe:
    """Return CoNe with linear heads over vectors of 7 numbers; nothing mixes the rows of a batch."""
    torch.manual_seed(0)
    return config.build(Flat(nn.Identity(), 7)).double()


def vectors(step: int, count: int = BATCH) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(count, 7, generator=generator, dtype=torch.float64)
    return Batch((x,), torch.arange(count), torch.randint(CLASSES, (count,), generator=generator))


def from_the_authors(g: Golden, smoothing: float) -> CoNe:
    method = cone(
        replace(
            RESOLVED, queue_size=16, contrast_weight=float(g["alpha_sup"]), label_smoothing=smoothing, warmup_steps=1
        )
    )
    state = {"queue.num_enqueued": torch.zeros((), dtype=torch.int64)}
    for encoder, prefix in {"encoder_q": "", "encoder_k": "ema_encoder.module."}.items():
        for part, name in {"head": "projector.0", "fc": "output"}.items():
            for leaf in ("weight", "bias"):
                state[f"{prefix}{name}.{leaf}"] = torch.from_numpy(g[f"init_{encoder}.{part}.{leaf}"])
    for stream, name in {"keys": "queue", "votes": "queue_label_prob", "labels": "queue_label"}.items():
        state[f"queue.{stream}"] = torch.from_numpy(g[f"init_{name}"].T)
    method.load_state_dict(state)
    return method


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_of_the_authors(golden: Callable[[str], Golden], smoothing: float) -> None:
    g = golden("cone")
    method, prefix = from_the_authors(g, smoothing), f"ls{smoothing}"
    x = torch.from_numpy(g["x"]).requires_grad_(True)
    batch = Batch((x,), torch.arange(4), torch.from_numpy(g["y"]))
    assert_allclose(method(batch, StepInfo(0, 9)).total.detach(), g[f"{prefix}_warmup_loss_fc"], rtol=1e-9)
    loss = method(batch, StepInfo(1, 9))
    loss.total.backward()
    assert_allclose(loss.total.detach(), g[f"{prefix}_loss_total"], rtol=1e-9)
    for term, name in {"labels": "fc", "contrast": "sup", "consistency": "dc"}.items():
        assert_allclose(loss.terms[term], g[f"{prefix}_loss_{name}"], rtol=1e-9)
    trained = {"head": method.projector[0], "fc": method.output}
    for name, layer in trained.items():
        for leaf in ("weight", "bias"):
            grad = layer.get_parameter(leaf).grad
            assert_allclose(grad, g[f"{prefix}_grad_{name}.{leaf}"], rtol=1e-8, atol=1e-9)
    assert_allclose(x.grad, g[f"{prefix}_grad_x"], rtol=1e-8, atol=1e-9)
    method.after_step(loss, StepInfo(1, 9))
    for stream, name in {"keys": "queue", "votes": "queue_label_prob", "labels": "queue_label"}.items():
        assert_allclose(method.queue[stream], g[f"{name}_after"].T, rtol=1e-9, atol=1e-9)


def descend(method: CoNe, batch: Batch, step_info: StepInfo) -> LossOutput:
    """Take a step of plain descent, without `after_step`."""
    loss = method(batch, step_info)
    trained = [p for p in method.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss.total, trained)
    with torch.no_grad():
        for parameter, grad in zip(trained, grads, strict=True):
            parameter.sub_(0.1 * grad)
    return loss


def test_queue_and_ema_encoder_over_three_steps() -> None:
    """Keys, votes and labels of an image lie at the same place; batches of 5 wrap around in a queue of 12."""
    method, steps = cone(), 9
    average = {k: p.detach().clone() for k, p in method.ema_encoder.module.named_parameters()}
    expected: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    for step in range(3):
        batch = vectors(step)
        assert batch.labels is not None
        keys = batch.views[0] @ average["projector.0.weight"].T + average["projector.0.bias"]
        votes = (keys @ average["output.weight"].T + average["output.bias"]).softmax(1)
        for row in range(BATCH):
            expected[(BATCH * step + row) % QUEUE] = F.normalize(keys[row], dim=0), votes[row], batch.labels[row]
        method.after_step(descend(method, batch, StepInfo(step, steps)), StepInfo(step, steps))
        momentum = 1 - 0.1 * (np.cos(np.pi * (step + 1) / steps) + 1) / 2
        for name, value in average.items():
            value.mul_(momentum).add_((1 - momentum) * method.get_parameter(name).detach())
            torch.testing.assert_close(method.ema_encoder.module.get_parameter(name).detach(), value)
    for place, values in expected.items():
        for stream, value in zip(("keys", "votes", "labels"), values, strict=True):
            torch.testing.assert_close(method.queue[stream][place], value)


def test_halves_of_a_batch_average_to_the_whole() -> None:
    """The loss of an image depends on no other image of the batch: therefore processes agree."""
    method, whole = cone(), vectors(9, 8)
    for step in range(3):
        method.after_step(method(vectors(step), StepInfo(step, 9)), StepInfo(step, 9))
    assert whole.labels is not None
    halves = [
        Batch((view,), rows, labels)
        for view, rows, labels in zip(
            whole.views[0].chunk(2), whole.indices.chunk(2), whole.labels.chunk(2), strict=True
        )
    ]
    parts = torch.stack([method(half, StepInfo(3, 9)).total for half in halves])
    loss = method(whole, StepInfo(3, 9))
    torch.testing.assert_close(parts.mean(), loss.total)
    assert loss.terms["contrast"] > 0
    assert loss.terms["consistency"] > 0


def test_the_warmup_has_the_cross_entropy_alone() -> None:
    method = cone(replace(RESOLVED, warmup_steps=2))
    assert method(vectors(0), StepInfo(1, 9)).terms.keys() == {"labels"}
    assert method(vectors(0), StepInfo(2, 9)).terms.keys() == {"labels", "contrast", "consistency"}


def test_the_student_is_evaluated_without_its_classifier() -> None:
    method = cone()
    assert method.encoder() is method.backbone


def test_the_data_fill_in_classes_and_an_epoch_of_warmup() -> None:
    resolved = SMALL.resolve(CONTEXT)
    assert (resolved.num_classes, resolved.warmup_steps) == (
        CONTEXT.num_classes,
        CONTEXT.num_images // CONTEXT.batch_size,
    )
    assert resolved.resolve(CONTEXT) == resolved
    assert SMALL.resolve(CONTEXT._replace(total_steps=40)).warmup_steps == 4
    assert replace(SMALL, warmup_steps=3).resolve(CONTEXT).warmup_steps == 3


@pytest.mark.parametrize(
    ("config", "context", "code", "value"),
    [
        (CoNeConfig(), CONTEXT._replace(num_classes=0), "labels-needed", "cone"),
        (CoNeConfig(), CONTEXT._replace(num_classes=1), "labels-needed", "cone"),
        (CoNeConfig(queue_size=251), CONTEXT, "queue-too-large", 250),
        (CoNeConfig(queue_size=200), CONTEXT, "num-neighbors-out-of-range", 512),
        (replace(SMALL, num_classes=3), CONTEXT, "wrong-num-classes", 10),
        (replace(SMALL, label_smoothing=1.0), CONTEXT, "label-smoothing-out-of-range", 0.9),
    ],
)
def test_options_that_do_not_suit_the_data_are_refused(
    config: CoNeConfig, context: DataContext, code: str, value: object
) -> None:
    with raises(code, value):
        config.resolve(context)


def test_two_views_are_refused_and_so_is_a_method_built_on_it() -> None:
    with raises("wrong-number-of-views", "byol", "supervised"):
        CoNeConfig(views="byol").make_views(32)
    with raises("not-a-host", "cone"):
        HostConfig.choose("cone")
    assert MethodConfig.choose("cone") is CoNeConfig
