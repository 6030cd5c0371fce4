"""L-BFGS for several independent convex problems at once, without waiting for the device in between."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

HISTORY = 10  # steps that the curvature is estimated from, as in scikit-learn
CHECK_EVERY = 4  # steps between two looks at the gradients, for which the device is waited for
DECREASE = 1e-4  # share of the predicted decrease that a step must bring (Armijo)

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From points [L P] to the value of each problem [L] and its gradient [L P]."""


class _State(NamedTuple):
    """State of the optimizer: parameters of every problem, and the history that approximates its curvature."""

    point: Float[Tensor, "L P"]
    value: Float[Tensor, " L"]
    gradient: Float[Tensor, "L P"]
    direction: Float[Tensor, "L P"]
    rate: Float[Tensor, " L"]
    scale: Float[Tensor, " L"]  # inverse of the curvature in directions that no step went
    steps: Float[Tensor, "m L P"]  # zeros until there are so many
    changes: Float[Tensor, "m L P"]  # of the gradient, step by step
    inverses: Float[Tensor, "m L"]  # 1 / (step . change)


def minimize(
    objective: Objective, start: Float[Tensor, "L P"], curvature: Float[Tensor, " L"], tolerance: float, max_iter: int
) -> Float[Tensor, "L P"]:
    """Return the points where no entry of a gradient exceeds `tolerance`, or those after `max_iter` evaluations.

    Every evaluation tries a step for each problem. A problem whose value does not fall enough halves its step while the
    others go on (Nocedal and Wright, *Numerical Optimization*, algorithms 3.1 and 7.4).

    Args:
        objective: convex in each problem.
        start: the points to begin at.
        curvature: an upper bound of the curvature of each problem, from which the first step follows.
        tolerance: on the largest entry of the gradient.
        max_iter: evaluations after the first.
    """
    state = _begin(objective, start, curvature)
    for step in range(max_iter):
        if step % CHECK_EVERY == 0 and bool((state.gradient.abs().amax(1) <= tolerance).all()):
            break
        state = _advance(state, objective)
    return state.point


def _begin(objective: Objective, start: Tensor, curvature: Tensor) -> _State:
    value, gradient = objective(start)
    past = start.new_zeros(HISTORY, *start.shape)
    scale = 1 / curvature
    direction = -scale[:, None] * gradient
    return _State(start, value, gradient, direction, torch.ones_like(value), scale, past, past, past[..., 0])


def _advance(state: _State, objective: Objective) -> _State:
    """Try a step of every problem, and take those that are good."""
    trial = state.point + state.rate[:, None] * state.direction
    value, gradient = objective(trial)
    rounding = 8 * torch.finfo(trial.dtype).eps
    wanted = DECREASE * state.rate * (state.gradient * state.direction).sum(1)
    good = value <= state.value + wanted + rounding * state.value.abs()
    step, change = trial - state.point, gradient - state.gradient
    product = (step * change).sum(1)
    useful = good & (product > rounding * step.norm(dim=1) * change.norm(dim=1))
    steps, changes, inverses = (
        torch.where(useful.view(1, -1, *[1] * (new.ndim - 1)), torch.cat([old[1:], new[None]]), old)
        for old, new in ((state.steps, step), (state.changes, change), (state.inverses, 1 / product))
    )
    scale = torch.where(useful, product / change.square().sum(1), state.scale)
    gradient = torch.where(good[:, None], gradient, state.gradient)
    return _State(
        point=torch.where(good[:, None], trial, state.point),
        value=torch.where(good, value, state.value),
        gradient=gradient,
        direction=-_inverse_hessian(gradient, steps, changes, inverses, scale),
        rate=torch.where(good, torch.ones_like(state.rate), state.rate / 2),
        scale=scale,
        steps=steps,
        changes=changes,
        inverses=inverses,
    )


def _inverse_hessian(vector: Tensor, steps: Tensor, changes: Tensor, inverses: Tensor, scale: Tensor) -> Tensor:
    """Return the product of the estimated inverse Hessians with a vector [L P], by the two loops of L-BFGS."""
    shares = []
    for step, change, inverse in zip(steps.flip(0), changes.flip(0), inverses.flip(0), strict=True):
        shares.append(inverse * (step * vector).sum(1))
        vector = vector - shares[-1][:, None] * change
    vector = scale[:, None] * vector
    for step, change, inverse, share in zip(steps, changes, inverses, reversed(shares), strict=True):
        vector = vector + (share - inverse * (change * vector).sum(1))[:, None] * step
    return vector
