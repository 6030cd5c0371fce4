"""Health readings from a few fixed images; they change nothing that training depends on.

The networks run in evaluation mode, and no random number is drawn.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.losses.ranges import channel_ranges, peak_to_rms
from limbeck.methods.base import Method
from limbeck.metrics.outliers import kurtosis
from limbeck.metrics.representation import effective_rank, normalized_std, positive_alignment, uniformity
from limbeck.models.eval_mode import eval_mode
from limbeck.train.loading import BatchLoader

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MAX_IMAGES, MIN_IMAGES = 256, 32  # between these as many as in a step, so that a reading costs less than a step
MIN_DISTINCT = 3  # two different images span one direction, which would look like a collapse
CONSTANT = 0.01  # a unit is dead if its standard deviation over images is below this fraction of its layer's RMS


class HealthReader:
    """Reads the health of a method, from the same images in the same views every time.

    Args:
        method: in any mode; every module is left in the mode it had.
        loader: where the images come from; of each, the first two views are used, or a single one twice.
        fabric: gives the precision of the networks.
    """

    def __init__(self, method: Method, loader: BatchLoader, fabric: "Fabric") -> None:
        self.method, self.loader, self.fabric = method, loader, fabric
        count = min(max(MIN_IMAGES, loader.batch_size), MAX_IMAGES, len(loader.store))
        forward_batch = loader.batch_size // loader.world_size // loader.accumulate_steps
        rows = np.linspace(0, len(loader.store) - 1, count).astype(np.int64)
        self.parts = np.array_split(rows, -(-count // forward_batch))
        self.data_fault = describe_fault(getattr(loader.store, "images", None), rows)
        """What is wrong with the images themselves, so that no training could help; empty if nothing is."""
        self._max_rank = 0

    @property
    def max_rank(self) -> int:
        """The highest effective rank that so many embeddings of their width can have."""
        if not self._max_rank:
            self.read()
        return self._max_rank

    def read(self) -> dict[str, float]:
        """Return the numbers of docs/health.md, by column of metrics.csv; waits for the device."""
        with eval_mode(self.method):
            views = (self.loader.fixed_batch(rows).views for rows in self.parts)
            outputs = [self._forward(pair[0], pair[:2][-1]) for pair in views]
            weights = list(self.method.encoder().parameters())
            weight_norm, weight_hash = nn.utils.get_total_norm(weights), _hash(weights)
        joined = {name: torch.cat([output[name] for output in outputs]).float() for name in outputs[0]}
        first, second = joined.pop("first"), joined.pop("second")
        self._max_rank = min(first.shape)
        values = {}
        if "ema" in joined:
            values["ema_distance"] = _distance(joined.pop("backbone"), joined.pop("ema"))
        taps = self.method.encoder().taps
        layers = [joined[f"layer{tap}"] for tap in taps]
        values |= {
            "effective_rank": _rank(layers[-1]),
            "embedding_rank": _rank(first),
            "embedding_std": normalized_std(first),
            "alignment": _distance(first, second),
            "uniformity": uniformity(first),
            "dead_units": _dead_fraction(layers),
            "weight_norm": weight_norm,
            **_outliers([(joined[f"peaks{tap}"], joined[f"squares{tap}"], joined[f"fourths{tap}"]) for tap in taps]),
        }
        numbers = torch.stack(list(values.values())).tolist()
        return {**dict(zip(values, numbers, strict=True)), "weight_hash": float(weight_hash)}

    def _forward(self, first: Tensor, second: Tensor) -> dict[str, Float[Tensor, "B _"]]:
        """Return the embeddings of two views, the features of backbone and EMA encoder (if any), and every layer's.

        Of the feature maps of every layer there are, for each image, peaks and mean squares of the channels, and the
        mean fourth power.
        """
        method, encoder, target = self.method, self.method.encoder(), self.method.target_encoder()
        with self.fabric.autocast():
            outputs = {"first": method.embed(first), "second": method.embed(second)}
            if target is not None:
                outputs |= {"backbone": method.backbone(first).final, "ema": target(first).final}
            features = encoder(first, encoder.taps, feature_maps=True)
        for tap, maps in features.feature_maps.items():
            peaks, squares = channel_ranges(maps)
            outputs |= {f"peaks{tap}": peaks, f"squares{tap}": squares, f"fourths{tap}": _mean_fourth(maps)}
        return outputs | {f"layer{tap}": values for tap, values in features.taps.items()}


def describe_fault(images: Any, rows: NDArray[np.int64]) -> str:
    """Return why no network can distinguish the images at `rows`; empty if one can, or if they are not images."""
    if images is None:
        return ""
    shown = [np.asarray(images[row]) for row in rows]
    distinct = len({image.tobytes() for image in shown})
    if distinct < MIN_DISTINCT:
        return f"of {len(shown)} images from all over the store only {distinct} differ"
    if all((image == image[:1, :1]).all() for image in shown):
        return f"each of {len(shown)} images from all over the store has a single color"
    return ""


def _hash(weights: Sequence[Tensor]) -> Int[Tensor, ""]:
    """Return a number below 2^48 that differs, but for a chance of as much, where a single weight does."""
    total = torch.zeros((), dtype=torch.int64, device=weights[0].device)
    for weight in weights:
        bits = weight.detach().float().contiguous().view(torch.int32).flatten().long()
        places = torch.arange(1, 2 * len(bits), 2, device=bits.device)
        total = 31 * total + (bits * places).sum()  # wraps around
    return total.remainder(2**48)


def _distance(a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return the mean squared distance of L2-normalized rows, from 0 to 4."""
    return positive_alignment(F.normalize(a, dim=-1), F.normalize(b, dim=-1))


def _rank(a: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return the effective rank, or not-a-number if values that are not finite would break the decomposition."""
    return effective_rank(a) if bool(a.isfinite().all()) else a.new_tensor(math.nan)


def _dead_fraction(layers: Sequence[Float[Tensor, "N _"]]) -> Float[Tensor, ""]:
    """Return the fraction of the units of all layers whose output is the same for every image: all for one."""
    dead = [a.std(dim=0, correction=min(1, len(a) - 1)) <= CONSTANT * a.square().mean().sqrt() for a in layers]
    return torch.cat(dead).float().mean()


def _mean_fourth(maps: Float[Tensor, "B C *places"]) -> Float[Tensor, " B"]:
    return maps.flatten(1).float().pow(4).mean(dim=1)


def _outliers(layers: Sequence[tuple[Tensor, Tensor, Tensor]]) -> dict[str, Float[Tensor, ""]]:
    """Return the largest peak-to-RMS and kurtosis of the layers, from peaks [N C], mean squares [N C], fourths [N]."""
    ratios = torch.stack([peak_to_rms(peaks, squares).mean() for peaks, squares, _ in layers])
    kurtoses = torch.stack([kurtosis(fourths, squares.mean(dim=1)) for _, squares, fourths in layers])
    return {"peak_to_rms": ratios.max(), "peak_depth": ratios.argmax() + 1.0, "kurtosis": kurtoses.max()}
