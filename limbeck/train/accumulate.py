"""The loss of an optimiser step, put together from those of its micro-batches."""

import torch

from limbeck.core.types import Loss


def join(losses: list[Loss]) -> Loss:
    """The loss of a step from those of its micro-batches: means of total and terms, rows of memory joined."""
    if len(losses) == 1:
        return losses[0]
    total = torch.stack([loss.total for loss in losses]).mean()
    terms = {name: torch.stack([loss.terms[name] for loss in losses]).mean() for name in losses[0].terms}
    memory = {name: torch.cat([loss.memory[name] for loss in losses]) for name in losses[0].memory}
    return Loss(total, terms, memory)


def detach(loss: Loss) -> Loss:
    """The same numbers without the graph that they came from."""
    terms = {name: term.detach() for name, term in loss.terms.items()}
    return Loss(loss.total.detach(), terms, {name: rows.detach() for name, rows in loss.memory.items()})
