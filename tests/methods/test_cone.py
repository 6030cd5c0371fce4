"""CoNe against the authors' numbers, over several steps of its own queue, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, LossOutput, StepInfo
from limbeck.methods import HostConfig, MethodConfig
from limbeck.methods.cone import CoNe, CoNeConfig
from tests.helpers.tiny import CONTEXT, Flat

Golden = dict[str, np.ndarray]
QUEUE, CLASSES, BATCH = 12, 4, 5
FITTED = CoNeConfig(
    dim=6, projector_layers=1, queue=QUEUE, neighbours=5, classes=CLASSES, warmup_steps=0, momentum=0.9, smoothing=0.1
)


def cone(config: CoNeConfig = FITTED) -> CoNe:
    """With linear heads over vectors of 7 numbers; nothing mixes the rows of a batch."""
    torch.manual_seed(0)
    return config.build(Flat(nn.Identity(), 7)).double()


def vectors(step: int, count: int = BATCH) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(count, 7, generator=generator, dtype=torch.float64)
    return Batch((x,), torch.arange(count), torch.randint(CLASSES, (count,), generator=generator))


def of_the_authors(g: Golden, smoothing: float) -> CoNe:
    method = cone(replace(FITTED, queue=16, contrast=float(g["alpha_sup"]), smoothing=smoothing, warmup_steps=1))
    state = {"queue.pushed": torch.zeros((), dtype=torch.int64)}
    for theirs, own in {"encoder_q": "", "encoder_k": "teacher.module."}.items():
        for part, name in {"head": "projector.0", "fc": "output"}.items():
            for leaf in ("weight", "bias"):
                state[f"{own}{name}.{leaf}"] = torch.from_numpy(g[f"init_{theirs}.{part}.{leaf}"])
    for stream, name in {"keys": "queue", "votes": "queue_label_prob", "labels": "queue_label"}.items():
        state[f"queue.{stream}"] = torch.from_numpy(g[f"init_{name}"].T)
    method.load_state_dict(state)
    return method


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_of_the_authors(golden: Callable[[str], Golden], smoothing: float) -> None:
    g = golden("cone")
    method, prefix = of_the_authors(g, smoothing), f"ls{smoothing}"
    x = torch.from_numpy(g["x"]).requires_grad_(True)
    batch = Batch((x,), torch.arange(4), torch.from_numpy(g["y"]))
    assert_allclose(method(batch, StepInfo(0, 9)).total.detach(), g[f"{prefix}_warmup_loss_fc"], rtol=1e-9)
    loss = method(batch, StepInfo(1, 9))
    loss.total.backward()
    assert_allclose(loss.total.detach(), g[f"{prefix}_loss_total"], rtol=1e-9)
    for ours, theirs in {"labels": "fc", "contrast": "sup", "consistency": "dc"}.items():
        assert_allclose(loss.terms[ours], g[f"{prefix}_loss_{theirs}"], rtol=1e-9)
    learnt = {"head": method.projector[0], "fc": method.output}
    for theirs, layer in learnt.items():
        for leaf in ("weight", "bias"):
            grad = layer.get_parameter(leaf).grad
            assert_allclose(grad, g[f"{prefix}_grad_{theirs}.{leaf}"], rtol=1e-8, atol=1e-9)
    assert_allclose(x.grad, g[f"{prefix}_grad_x"], rtol=1e-8, atol=1e-9)
    method.after_step(loss, StepInfo(1, 9))
    for stream, name in {"keys": "queue", "votes": "queue_label_prob", "labels": "queue_label"}.items():
        assert_allclose(method.queue[stream], g[f"{name}_after"].T, rtol=1e-9, atol=1e-9)


def descend(method: CoNe, batch: Batch, step_info: StepInfo) -> LossOutput:
    """A step of plain descent; without `after_step`."""
    loss = method(batch, step_info)
    learnt = [p for p in method.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss.total, learnt)
    with torch.no_grad():
        for parameter, grad in zip(learnt, grads, strict=True):
            parameter -= 0.1 * grad
    return loss


def test_queue_and_teacher_over_three_steps() -> None:
    """Keys, votes and labels of one image stay together; batches of 5 wrap round in a queue of 12."""
    method, steps = cone(), 9
    teacher = {k: p.detach().clone() for k, p in method.teacher.module.named_parameters()}
    expected: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    for step in range(3):
        batch = vectors(step)
        assert batch.labels is not None
        keys = batch.views[0] @ teacher["projector.0.weight"].T + teacher["projector.0.bias"]
        votes = (keys @ teacher["output.weight"].T + teacher["output.bias"]).softmax(1)
        for row in range(BATCH):
            expected[(BATCH * step + row) % QUEUE] = F.normalize(keys[row], dim=0), votes[row], batch.labels[row]
        method.after_step(descend(method, batch, StepInfo(step, steps)), StepInfo(step, steps))
        momentum = 1 - 0.1 * (np.cos(np.pi * (step + 1) / steps) + 1) / 2
        for name, value in teacher.items():
            value.mul_(momentum).add_((1 - momentum) * method.get_parameter(name).detach())
            torch.testing.assert_close(method.teacher.module.get_parameter(name).detach(), value)
    for place, values in expected.items():
        for stream, value in zip(("keys", "votes", "labels"), values, strict=True):
            torch.testing.assert_close(method.queue[stream][place], value)


def test_halves_of_a_batch_average_to_the_whole() -> None:
    """Which is why processes agree: an image's loss depends on the queue alone, which is the same everywhere."""
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


def test_labels_alone_teach_during_the_warmup() -> None:
    method = cone(replace(FITTED, warmup_steps=2))
    assert method(vectors(0), StepInfo(1, 9)).terms.keys() == {"labels"}
    assert method(vectors(0), StepInfo(2, 9)).terms.keys() == {"labels", "contrast", "consistency"}


def test_the_student_is_evaluated_without_its_classifier() -> None:
    method = cone()
    assert method.encoder() is method.backbone


def test_the_data_fill_in_classes_and_an_epoch_of_warmup() -> None:
    fitted = CoNeConfig(queue=48, neighbours=8).resolve(CONTEXT)
    assert (fitted.classes, fitted.warmup_steps) == (CONTEXT.num_classes, CONTEXT.num_images // CONTEXT.batch_size)
    assert fitted.resolve(CONTEXT) == fitted
    assert CoNeConfig(queue=48, neighbours=8).resolve(CONTEXT._replace(total_steps=40)).warmup_steps == 4
    assert CoNeConfig(queue=48, neighbours=8, warmup_steps=3).resolve(CONTEXT).warmup_steps == 3


@pytest.mark.parametrize(
    ("config", "context", "sentence"),
    [
        (
            CoNeConfig(),
            CONTEXT._replace(num_classes=0),
            "needs a label for every image.*not every image of the store has one",
        ),
        (CoNeConfig(), CONTEXT._replace(num_classes=1), "there is one class only: give each class a folder"),
        (CoNeConfig(queue=251), CONTEXT, "take at most 250"),
        (CoNeConfig(queue=200), CONTEXT, "neighbours is 512: take 1 to 200"),
        (CoNeConfig(queue=48, neighbours=8, classes=3), CONTEXT, "classes is 3 and the store has 10"),
        (CoNeConfig(queue=48, neighbours=8, smoothing=1.0), CONTEXT, r"smoothing is 1.0: take 0 to 0\.9"),
    ],
)
def test_what_does_not_suit_the_data_is_refused(config: CoNeConfig, context: DataContext, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        config.resolve(context)


def test_two_views_are_refused_and_so_is_being_a_host() -> None:
    with pytest.raises(UserError, match="cone compares 1; choose one of supervised"):
        CoNeConfig(views="byol").make_views(32)
    with pytest.raises(UserError, match="no method can be built on 'cone'"):
        HostConfig.choose("cone")
    assert MethodConfig.choose("cone") is CoNeConfig
