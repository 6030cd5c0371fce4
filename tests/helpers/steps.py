"""Recompute the loss of a training step, of hosts and of SDSSL over them, from a method's state alone."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.core.types import Encoder
from limbeck.methods import Method
from limbeck.methods.base import Host, SymmetricEMAHost
from limbeck.methods.sdssl import SDSSL
from tests.helpers import loops

PAIR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "byol": loops.byol,
    "mocov3": loops.mocov3,
    "simclr": loops.simclr,
}


class Reference:
    """A method's loss in loops, on copies of its parameters that get the gradients."""

    def __init__(self, method: Method, layers: list[int], alpha: float, predictor_weight: float) -> None:
        self.method = copy.deepcopy(method)
        host = self.method.host if isinstance(self.method, SDSSL) else self.method
        assert isinstance(host, Host)
        self.host = host
        self.name, self.norm = self.host.cfg.name, self.host.cfg.trailing_norm
        self.layers, self.alpha, self.predictor_weight = layers, alpha, predictor_weight
        self.depth = host.backbone.taps[-1]

    def project(self, layer: int, h: Tensor) -> Tensor:
        return loops.mlp(h, self._state(layer, "projector"), self.norm)

    def predict(self, layer: int, z: Tensor) -> Tensor:
        return loops.mlp(z, self._state(layer, "predictor"), self.norm) if self.host.has_predictor else z

    def _state(self, layer: int, part: str) -> dict[str, Tensor]:
        head = "head" if layer == self.depth else f"heads.{layer}"
        module = (self.host if layer == self.depth else self.method).get_submodule(f"{head}.{part}")
        return {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def ema_forward(self, view: Tensor) -> Tensor:
        assert isinstance(self.host, SymmetricEMAHost)
        ema = self.host.ema_encoder.module
        features = self._layers(ema.backbone, view)[-1]
        return loops.mlp(features, dict(ema.projector.named_parameters()), self.norm).detach()

    def _layers(self, backbone: Encoder, view: Tensor) -> list[Tensor]:
        return loops.vit_layers(backbone.get_submodule("model"), view)

    def directions(self, views: tuple[Tensor, Tensor]) -> list[tuple[dict[int, Tensor], Tensor]]:
        """Return (projections of every layer, target of the last one), one per pass."""
        used = [*self.layers, self.depth]
        if self.name == "simclr":
            h = self._layers(self.host.backbone, torch.cat(views))
            z = {layer: self.project(layer, h[layer - 1]) for layer in used}
            return [(z, z[self.depth])]
        passes = []
        for student, other in ((views[1], views[0]), (views[0], views[1])):
            h = self._layers(self.host.backbone, student)
            passes.append(({layer: self.project(layer, h[layer - 1]) for layer in used}, self.ema_forward(other)))
        return passes

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        pair_loss, total = PAIR_LOSSES[self.name], torch.zeros((), dtype=torch.float64)
        for z, target in self.directions(views):
            total = total + pair_loss(self.predict(self.depth, z[self.depth]), target)
            for layer in self.layers:
                weight = self.alpha / len(self.layers)
                total = total + weight * pair_loss(self.predict(layer, z[layer]), target.detach())
            if self.host.has_predictor:
                for layer, projection in z.items():
                    alone = pair_loss(self.predict(layer, projection.detach()), target.detach())
                    total = total + self.predictor_weight * alone
        return total
