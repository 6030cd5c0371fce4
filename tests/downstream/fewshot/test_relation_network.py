"""The relation module with memory: the reconstruction in loops (stored and recomputed), memory, and contexts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.downstream.fewshot.config import RelationConfig
from limbeck.downstream.fewshot.relation import ClassMemory, RelationNetwork
from tests.helpers.golden import assert_allclose

Golden = dict[str, np.ndarray]
PARAMETERS = {
    "rel_w1": "pair.weight",
    "rel_b1": "pair.bias",
    "rel_w2": "relation.weight",
    "rel_b2": "relation.bias",
    "value_w": "value.weight",
    "out_w": "output.weight",
    "gamma": "gamma",
    "norm_w": "norm.weight",
    "norm_b": "norm.bias",
}


def network(dim: int, **settings: Any) -> RelationNetwork:
    """Return a module with random weights, also of what starts at 0."""
    torch.manual_seed(0)
    module = RelationNetwork(dim, RelationConfig(**settings)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("name", ["mrn_support_ce", "mrn_all_ce"])
def test_the_stored_episodes(golden: Callable[[str], Golden], name: str) -> None:
    g = golden(name)
    t = {key: torch.from_numpy(value) for key, value in g.items() if value.dtype.kind in "fi"}
    module = network(g["support"].shape[1], neighbors=int(g["k"]), context=str(g["context"]))
    module.load_state_dict({PARAMETERS[k.removeprefix("p_")]: v for k, v in t.items() if k.startswith("p_")})
    support, query = (t[key].clone().requires_grad_() for key in ("support", "query"))
    first = module.propagate(torch.cat([support, query]), len(support), t["memory"])
    assert_allclose(first, g["after_first_round"], rtol=1e-7, atol=1e-9)
    scores = module(support, query, t["support_labels"], t["memory"])
    assert_allclose(scores, g["scores"], rtol=1e-7, atol=1e-9)
    loss = module.loss(scores, t["query_labels"])
    assert_allclose(loss, g["loss"], rtol=1e-7)
    loss.backward()
    for key, parameter in PARAMETERS.items():
        assert_allclose(module.get_parameter(parameter).grad, g[f"grad_{key}"], rtol=1e-6, atol=1e-9, name=key)
    for key, leaf in (("grad_support", support), ("grad_query", query)):
        assert_allclose(leaf.grad, g[key], rtol=1e-6, atol=1e-9, name=key)


@pytest.mark.parametrize("name", ["mrn_support_ce", "mrn_all_ce"])
def test_the_stored_memory(golden: Callable[[str], Golden], name: str) -> None:
    """Slots of the classes of an episode move towards the mean of all of its images."""
    g = golden(name)
    features, labels = (
        np.concatenate([g["support"], g["query"]]),
        np.concatenate([g["support_labels"], g["query_labels"]]),
    )
    by_class = torch.from_numpy(np.stack([features[labels == c] for c in range(len(g["slot_of_class"]))]))
    memory = ClassMemory(len(g["slots_before"]), g["slots_before"].shape[1], float(g["momentum"])).double()
    memory.slots.copy_(torch.from_numpy(g["slots_before"]))
    memory.written.fill_(True)
    memory.write(by_class, torch.from_numpy(g["slot_of_class"]))
    assert_allclose(memory.slots, g["slots_after"], rtol=1e-7, atol=1e-9)


def relation(module: RelationNetwork, a: Tensor, b: Tensor) -> Tensor:
    hidden = torch.relu(module.pair.weight @ torch.cat([(a - b).abs(), a * b]) + module.pair.bias)
    return module.relation.weight[0] @ hidden + module.relation.bias[0]


@pytest.mark.parametrize("context", ["support", "all"])
@pytest.mark.parametrize("loss", ["cross-entropy", "squares"])
def test_two_rounds_equal_the_loops(context: str, loss: str) -> None:
    module = network(4, neighbors=2, rounds=2, context=context, loss=loss)
    h = [*torch.randn(7, 4, dtype=torch.float64)]
    support, query, memory = torch.stack(h[:3]), torch.stack(h[3:]), torch.randn(2, 4, dtype=torch.float64)
    labels, truth = torch.tensor([1, 0, 1]), [0, 1, 1, 0]
    for _ in range(2):
        inside = h[:3] if context == "support" else h
        updated = []
        for i, a in enumerate(h):
            others = [b for j, b in enumerate(inside) if j != i] + [*memory]
            found = sorted(((relation(module, a, b), b) for b in others), key=lambda pair: -pair[0].item())[:2]
            exps = [torch.exp(r / 0.1) for r, _ in found]
            message = sum(e / sum(exps) * (module.value.weight @ b) for e, (_, b) in zip(exps, found, strict=True))
            x = a + module.gamma * torch.relu(module.output.weight @ message)
            variance = ((x - x.mean()) ** 2).mean()
            updated.append((x - x.mean()) / torch.sqrt(variance + 1e-5) * module.norm.weight + module.norm.bias)
        h = updated
    total = torch.zeros((), dtype=torch.float64)
    for q, c in zip(h[3:], truth, strict=True):
        relations = [relation(module, q, s) for s in h[:3]]
        scores = torch.stack([relations[1], (relations[0] + relations[2]) / 2])
        if loss == "squares":
            wanted = torch.tensor([1 - c, c])
            total = total + ((torch.sigmoid(scores) - wanted) ** 2).sum() / 8
        else:
            total = total - torch.log(torch.exp(scores[c]) / torch.exp(scores).sum()) / 4
    fast = module.loss(module(support, query, labels, memory), torch.tensor(truth))
    torch.testing.assert_close(fast, total, rtol=1e-10, atol=1e-12)
    parameters = list(module.parameters())
    for a, b in zip(torch.autograd.grad(fast, parameters), torch.autograd.grad(total, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def scores(context: str, other: float, neighbors: int = 3) -> Tensor:
    """Return the scores of a query beside another one, which has the value `other` everywhere."""
    module = network(4, neighbors=neighbors, context=context)
    generator = torch.Generator().manual_seed(1)
    support, memory = (torch.randn(n, 4, dtype=torch.float64, generator=generator) for n in (4, 2))
    query = torch.stack([torch.linspace(0, 1, 4, dtype=torch.float64), torch.full((4,), other, dtype=torch.float64)])
    found: Tensor = module(support, query, torch.tensor([0, 0, 1, 1]), memory)[0]
    return found


def test_a_query_is_seen_by_other_queries_in_a_transductive_context_alone() -> None:
    assert torch.equal(scores("support", 0.3), scores("support", -0.2))
    assert not torch.equal(scores("all", 0.3, neighbors=7), scores("all", -0.2, neighbors=7))


def test_without_neighbors_nothing_is_propagated() -> None:
    module = network(4, neighbors=0)
    support, query = torch.randn(2, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    found = module(support, query, torch.tensor([0, 1]), torch.randn(5, 4, dtype=torch.float64))
    torch.testing.assert_close(found, module.relations(query, support))


def test_a_slot_begins_with_the_first_mean_and_takes_no_part_before() -> None:
    memory = ClassMemory(3, 2)
    assert memory.read().shape == (0, 2)
    memory.write(torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]), torch.tensor([1]))
    assert memory.read().tolist() == [[1.0, 1.0]]
    memory.write(torch.tensor([[[11.0, 1.0]]]), torch.tensor([1]))
    assert_allclose(memory.read(), torch.tensor([[2.0, 1.0]]), rtol=1e-6)
