"""Readings of health from a few fixed images; they change nothing that training depends on.

Networks answer in evaluation mode, and no random number is drawn.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data.loader import Loader
from limbeck.methods.base import Method
from limbeck.metrics.representation import deviation, effective_rank, positive_alignment, uniformity
from limbeck.train.eval_callback import evaluating

if TYPE_CHECKING:
    from lightning.fabric import Fabric

MOST, FEWEST = 256, 32  # images: between these one step's number, so that a reading costs less than a step
CONSTANT = 0.01  # a unit is dead where its deviation over images is below this share of its layer's RMS


class HealthReader:
    """Reads the health of a method, from the same images in the same views every time.

    Args:
        method: in whatever mode; every module is left in the one it had.
        loader: where the images come from; the first two views of each are looked at, a single one twice.
        fabric: whose precision the networks run in.
    """

    def __init__(self, method: Method, loader: Loader, fabric: "Fabric") -> None:
        self.method, self.loader, self.fabric = method, loader, fabric
        count = min(MOST, max(FEWEST, loader.batch_size), len(loader.store))
        at_once = loader.batch_size // loader.world_size // loader.accumulate_steps  # as a forward of training
        self.parts = np.array_split(np.linspace(0, len(loader.store) - 1, count).astype(np.int64), -(-count // at_once))
        self.of = 0
        """The highest rank that embeddings of so many images, of their width, can have; known after a reading."""

    def read(self) -> dict[str, float]:
        """The numbers of docs/health.md, by column; waits for the device."""
        with evaluating(self.method):
            looks = (self.loader.fixed_batch(rows).views for rows in self.parts)
            seen = [self._look(views[0], views[:2][-1]) for views in looks]
            weights = nn.utils.get_total_norm(self.method.encoder().parameters())
        parts = {name: torch.cat([part[name] for part in seen]).float() for name in seen[0]}
        first, second = parts.pop("first"), parts.pop("second")
        self.of = min(first.shape)
        found = {}
        if "teacher" in parts:
            found["ema_distance"] = _distance(parts.pop("student"), parts.pop("teacher"))
        layers = list(parts.values())
        found |= {
            "effective_rank": _rank(layers[-1]),
            "embedding_rank": _rank(first),
            "deviation": deviation(first),
            "alignment": _distance(first, second),
            "uniformity": uniformity(first),
            "dead_units": _dead(layers),
            "weight_norm": weights,
        }
        return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))

    def _look(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Embeddings of two views, features of student and teacher if there is one, and the encoder's layers in turn.

        Each [B D].
        """
        method, encoder, target = self.method, self.method.encoder(), self.method.target_encoder()
        with self.fabric.autocast():
            found = {"first": method.embed(first), "second": method.embed(second)}
            if target is not None:
                found |= {"student": method.backbone(first).final, "teacher": target(first).final}
            return found | {f"layer{tap}": values for tap, values in encoder(first, encoder.taps).taps.items()}


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of L2-normalised rows [N D], from 0 to 4."""
    return positive_alignment(F.normalize(a, dim=-1), F.normalize(b, dim=-1))


def _rank(a: Tensor) -> Tensor:
    """Effective rank, or not-a-number where the decomposition would fail for want of finite numbers."""
    return effective_rank(a) if bool(a.isfinite().all()) else a.new_tensor(math.nan)


def _dead(layers: Sequence[Tensor]) -> Tensor:
    """Share of the units of all layers [N D_l] that answer alike to every image."""
    dead = [a.std(dim=0) <= CONSTANT * a.square().mean().sqrt() for a in layers]
    return torch.cat(dead).float().mean()
