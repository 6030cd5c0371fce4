"""MoBY: its definition and the authors' steps, up to queues, EMA encoder and BatchNorms."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.types import Batch, StepInfo
from limbeck.methods.base import ProjectedEncoder
from limbeck.methods.config.moby import MoBYConfig
from limbeck.methods.moby import MoBY
from tests.helpers.golden import assert_allclose
from tests.helpers.loops import cos
from tests.helpers.tiny import Flat, batch, tiny_vit

Golden = dict[str, np.ndarray]
STEPS = 10  # the length of the run, of which the authors' numbers have three steps
PARTS = {
    "encoder_k": "ema_encoder.module.backbone.model",
    "encoder": "backbone.model",
    "projector_k": "ema_encoder.module.projector",
    "projector": "head.projector",
    "predictor": "head.predictor",
    "queue1": "queue.first",
    "queue2": "queue.second",
    "queue_ptr": "queue.num_enqueued",
}
LAYERS = {"fc": "0", "linear_hidden.1": "0", "linear_hidden.2": "1", "linear_out": "3"}


def limbeck_name(name: str) -> str:
    """Return the name in the state of MoBY for the authors' name of a parameter or buffer."""
    part, _, inner = name.partition(".")
    layer, _, leaf = inner.rpartition(".")
    return ".".join([PARTS[part], LAYERS[layer], leaf]) if leaf else PARTS[part]


def state(g: Golden, prefix: str) -> dict[str, Tensor]:
    """Return the authors' values under a prefix, by Limbeck's names; the authors store keys in columns."""
    found = {key.removeprefix(prefix): torch.from_numpy(v) for key, v in g.items() if key.startswith(prefix)}
    return {
        limbeck_name(k): v.squeeze() if "ptr" in k else v.T if k.startswith("queue") else v for k, v in found.items()
    }


def from_the_authors(g: Golden) -> MoBY:
    """Return the method with the authors' initial weights; they update the EMA encoder before the first step."""
    network = Flat(nn.Sequential(nn.Linear(7, 6, bias=False), nn.ReLU()), 6)
    momentum, temperature = float(g["base_momentum"]), float(g["temp"])
    config = MoBYConfig(dim=5, hidden=10, queue_size=8, ema_momentum=momentum, temperature=temperature)
    method = config.build(network).double()
    method.load_state_dict(state(g, "init_"))
    method.ema_encoder.update(ProjectedEncoder(method.backbone, method.head.projector), momentum)
    return method


def check(method: MoBY, expected: dict[str, Tensor]) -> None:
    found = method.state_dict()
    for name, value in expected.items():
        assert_allclose(found[name], value, rtol=1e-9, atol=1e-9, name=name)


def test_three_steps_of_the_authors(golden: Callable[[str], Golden]) -> None:
    """The authors update the EMA encoder before its forward pass, not after the step: one update less at the end."""
    g = golden("moby")
    method = from_the_authors(g)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=float(g["sgd_lr"]))
    final = state(g, "final_")
    for step, views in enumerate(torch.from_numpy(g["x"])):
        loss = method(Batch(tuple(views), torch.arange(4)), StepInfo(step, STEPS))
        assert_allclose(loss.total.detach(), g["losses"][step], rtol=1e-9)
        optimizer.zero_grad()
        loss.total.backward()
        for name, grad in state(g, "step0grad_").items() if step == 0 else ():
            assert_allclose(method.get_parameter(name).grad, grad, rtol=1e-9, atol=1e-9, name=name)
        optimizer.step()
        if step == 2:
            check(method, {k: v for k, v in final.items() if not k.startswith("queue")})
        method.after_step(loss, StepInfo(step, STEPS))
    check(method, {k: v for k, v in final.items() if k in ("queue.first", "queue.second")})
    assert method.queue.num_enqueued % 8 == final["queue.num_enqueued"]


def test_equals_its_definition() -> None:
    torch.manual_seed(0)
    method = MoBYConfig(hidden=12, dim=8, queue_size=12).build(tiny_vit()).double()
    now = batch(5, torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for student, ema, queue in ((0, 1, "second"), (1, 0, "first")):
        queries = method.head.predict(method.head.project(method.backbone(now.views[student]).final))
        keys = method.ema_encoder.module(now.views[ema]).detach()
        for q, k in zip(queries, keys, strict=True):
            sums = [torch.exp(cos(q, c) / 0.2) for c in [k, *method.bank(queue)]]
            total = total - torch.log(sums[0] / sum(sums)) / 5
    loss = method(now, StepInfo(0, 1)).total
    torch.testing.assert_close(loss, total, rtol=1e-10, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    for a, b in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(total, trained), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_keys_go_to_the_queue_of_their_own_view() -> None:
    method = MoBYConfig(hidden=12, dim=8, queue_size=12).build(tiny_vit()).double()
    now = batch(5, torch.float64)
    keys = [F.normalize(method.ema_encoder.module(view), dim=1).detach() for view in now.views]
    method.after_step(method(now, StepInfo(0, 2)), StepInfo(0, 2))
    for name, expected in zip(("first", "second"), keys, strict=True):
        torch.testing.assert_close(method.bank(name)[:5], expected)


def test_the_student_is_evaluated() -> None:
    method = MoBYConfig(hidden=12, dim=8, queue_size=12).build(tiny_vit())
    assert method.encoder() is method.backbone
