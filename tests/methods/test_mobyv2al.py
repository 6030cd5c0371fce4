"""MoBYv2AL: the authors' steps and the definition, and labels that are not known and play no part."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.types import Batch, StepInfo
from limbeck.losses.classification import known_cross_entropy
from limbeck.methods.base import ProjectedEncoder
from limbeck.methods.config.mobyv2al import MoBYv2ALConfig
from limbeck.methods.mobyv2al import MoBYv2AL
from tests.helpers.golden import assert_allclose
from tests.helpers.loops import cos
from tests.helpers.tiny import CONTEXT, Flat, batch, shrink, tiny_vit

Golden = dict[str, np.ndarray]
NAMES = {
    "encoder.fc": "host.backbone.model.0",
    "encoder_k.fc": "host.ema_encoder.module.backbone.model.0",
    "projector.linear_out": "host.head.projector",
    "projector_k.linear_out": "host.ema_encoder.module.projector",
    "predictor.linear_out": "host.head.predictor",
    "classifier": "classifier",
}
QUEUES = {"queue1": "host.queue.first", "queue2": "host.queue.second", "queue_ptr": "host.queue.num_enqueued"}


def state(g: Golden, prefix: str) -> dict[str, Tensor]:
    """Return the authors' values under a prefix, by Limbeck's names; the authors store keys in columns."""
    found = {}
    for key, value in g.items():
        name = key.removeprefix(prefix)
        if name != key:
            part, _, leaf = name.rpartition(".")
            found[f"{NAMES[part]}.{leaf}" if part else QUEUES[name]] = torch.from_numpy(value)
    return {k: v.squeeze() if "num" in k else v.T if "queue" in k else v for k, v in found.items()}


def from_the_authors(g: Golden) -> MoBYv2AL:
    """Return the method with the authors' initial weights; they update the EMA encoder before the first step."""
    momentum = float(g["momentum_start"])
    config = MoBYv2ALConfig(dim=6, queue_size=8, num_classes=3, ema_momentum=momentum)
    method = config.build(Flat(nn.Sequential(nn.Linear(7, 6), nn.ReLU()), 6)).double()
    method.load_state_dict(state(g, "init_"))
    host = method.host
    host.ema_encoder.update(ProjectedEncoder(host.backbone, host.head.projector), momentum)
    return method


def groups(method: MoBYv2AL, decay: float) -> list[dict[str, object]]:
    """Return the authors' groups: no decay of the classifier."""
    named = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
    parts = ([p for name, p in named if name.startswith("classifier") is own] for own in (False, True))
    return [{"params": part, "weight_decay": rate} for part, rate in zip(parts, (decay, 0.0), strict=True)]


def test_four_steps_of_the_authors(golden: Callable[[str], Golden]) -> None:
    """Labeled and unlabeled in turn; the authors update the EMA encoder before a step: one update less at the end."""
    g = golden("mobyv2al")
    method = from_the_authors(g)
    optimizer = torch.optim.SGD(
        groups(method, float(g["weight_decay"])), lr=float(g["lr"]), momentum=float(g["sgd_momentum"])
    )
    final = state(g, "final_")
    views = zip(*(torch.from_numpy(g[name]) for name in ("x_strong", "x_weak")), strict=True)
    for number, pair in enumerate(views):
        step = StepInfo(number, int(g["total_steps"]))
        labels = torch.from_numpy(g["y"][number]) if g["labelled"][number] else torch.full((4,), -1)
        loss = method(Batch(pair, torch.arange(4), labels), step)
        assert_allclose(loss.total.detach(), g["losses"][number], rtol=1e-9)
        assert_allclose(loss.terms["contrast"], g["contrastive"][number], rtol=1e-9)
        optimizer.zero_grad()
        loss.total.backward()
        for name, grad in state(g, "step0grad_").items() if number == 0 else ():
            assert_allclose(method.get_parameter(name).grad, grad, rtol=1e-7, atol=1e-9, name=name)
        if not g["labelled"][number]:  # there the authors do not compute logits, so that the classifier stays
            assert all(p.grad is not None and not p.grad.any() for p in method.classifier.parameters())
            method.classifier.zero_grad()
        optimizer.step()
        found = method.state_dict()
        if number == 3:
            for name, value in final.items():
                if "queue" not in name:
                    assert_allclose(found[name], value, rtol=1e-9, atol=1e-9, name=name)
        method.after_step(loss, step)
    for name in ("host.queue.first", "host.queue.second"):
        assert_allclose(method.state_dict()[name], final[name], rtol=1e-9, atol=1e-9, name=name)


def tiny() -> MoBYv2AL:
    config = shrink(MoBYv2ALConfig()).resolve(CONTEXT)
    method = config.build(tiny_vit()).double()
    assert isinstance(method, MoBYv2AL)
    return method


def test_equals_its_definition() -> None:
    """A batch of images with and without labels: loss and gradients, as loops."""
    method, now = tiny(), batch(5, torch.float64)
    labels = torch.tensor([3, -1, 0, -1, 9])
    total = torch.zeros((), dtype=torch.float64)
    for image, label in zip(method.backbone(now.views[1]).final, labels.tolist(), strict=True):
        if label >= 0:
            logits = method.classifier.weight @ image + method.classifier.bias
            total = total - torch.log(torch.exp(logits[label]) / torch.exp(logits).sum()) / 5
    for student, ema, queue in ((0, 1, "second"), (1, 0, "first")):
        queries = method.host.head.predict(method.host.head.project(method.backbone(now.views[student]).final))
        keys = method.host.ema_encoder.module(now.views[ema]).detach()
        for q, k in zip(queries, keys, strict=True):
            sums = [torch.exp(cos(q, c) / 0.2) for c in [k, *method.host.bank(queue)]]
            total = total - 0.5 * torch.log(sums[0] / sum(sums)) / 5
    loss = method(now._replace(labels=labels), StepInfo(0, 1)).total
    torch.testing.assert_close(loss, total, rtol=1e-10, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    for a, b in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(total, trained), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_without_a_label_the_classifier_stays_and_the_rest_is_moby() -> None:
    method, now = tiny(), batch(4, torch.float64)
    unlabeled = method(now._replace(labels=torch.full((4,), -1)), StepInfo(0, 1))
    unlabeled.total.backward()
    assert unlabeled.terms["labels"] == 0
    torch.testing.assert_close(unlabeled.total, 0.5 * method.host(now, StepInfo(0, 1)).total)
    assert all(not p.grad.any() for p in method.classifier.parameters() if p.grad is not None)


def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_halves() -> None:
    """Whatever the labels of each half: so processes agree, one of which may have none."""
    logits = torch.randn(6, 4, dtype=torch.float64)
    labels = torch.tensor([1, 3, 0, -1, -1, -1])
    whole = known_cross_entropy(logits, labels)
    halves = [known_cross_entropy(*part) for part in zip(logits.split(3), labels.split(3), strict=True)]
    torch.testing.assert_close(whole, sum(halves) / 2)
    torch.testing.assert_close(whole, F.cross_entropy(logits[:3], labels[:3]) / 2)
