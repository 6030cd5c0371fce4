"""The loss of a whole training step, of the hosts and of SDSSL over them, from a method's state alone."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.methods import Method
from limbeck.methods.base import Host, SymmetricEMAHost
from limbeck.methods.sdssl import SDSSL
from tests.helpers import loops

MATCH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "byol": loops.byol,
    "mocov3": loops.mocov3,
    "simclr": loops.simclr,
}


class Reference:
    """Recomputes a method's loss in loops, on copies of its parameters that take the gradients."""

    def __init__(self, method: Method, layers: list[int], alpha: float, predictor_weight: float) -> None:
        self.method = copy.deepcopy(method)
        self.host: Host = self.method.host if isinstance(self.method, SDSSL) else self.method  # type: ignore[assignment]
        self.name, self.norm = self.host.cfg.name, self.host.cfg.trailing_norm
        self.layers, self.alpha, self.predictor_weight = layers, alpha, predictor_weight
        self.depth = len(self.host.backbone.model.blocks)

    def project(self, layer: int, h: Tensor) -> Tensor:
        return loops.mlp(h, self._state(layer, "projector"), self.norm)

    def predict(self, layer: int, z: Tensor) -> Tensor:
        return loops.mlp(z, self._state(layer, "predictor"), self.norm) if self.host.has_predictor else z

    def _state(self, layer: int, part: str) -> dict[str, Tensor]:
        head = self.host.head if layer == self.depth else self.method.heads[str(layer)]  # type: ignore[operator,index]
        module = getattr(head, part)
        return {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def teacher(self, view: Tensor) -> Tensor:
        assert isinstance(self.host, SymmetricEMAHost)
        branch = self.host.teacher.module
        state = dict(branch.projector.named_parameters())  # type: ignore[union-attr]
        return loops.mlp(loops.vit_layers(branch.backbone.model, view)[-1], state, self.norm).detach()  # type: ignore[union-attr]

    def directions(self, views: tuple[Tensor, Tensor]) -> list[tuple[dict[int, Tensor], Tensor]]:
        """(projections of every layer, target of the last one), one per pass."""
        used = [*self.layers, self.depth]
        if self.name == "simclr":
            h = loops.vit_layers(self.host.backbone.model, torch.cat(views))
            z = {layer: self.project(layer, h[layer - 1]) for layer in used}
            return [(z, z[self.depth])]
        passes = []
        for student, teacher in ((views[1], views[0]), (views[0], views[1])):
            h = loops.vit_layers(self.host.backbone.model, student)
            passes.append(({layer: self.project(layer, h[layer - 1]) for layer in used}, self.teacher(teacher)))
        return passes

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        match, total = MATCH[self.name], torch.zeros((), dtype=torch.float64)
        for z, target in self.directions(views):
            total = total + match(self.predict(self.depth, z[self.depth]), target)
            for layer in self.layers:
                weight = self.alpha / len(self.layers)
                total = total + weight * match(self.predict(layer, z[layer]), target.detach())
            if self.host.has_predictor:
                for layer, projection in z.items():
                    own = match(self.predict(layer, projection.detach()), target.detach())
                    total = total + self.predictor_weight * own
        return total
