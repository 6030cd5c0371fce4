"""Compare an adapted network with the weights that it started from: evidence and verdict."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.config import from_json, to_json
from limbeck.core.devices import resolve_bf16
from limbeck.core.files import read_json, write_json
from limbeck.core.text import plural
from limbeck.data.augment.views import preset
from limbeck.data.store.store import Store
from limbeck.features.extract import extract
from limbeck.features.images import ImageFn, augmented_images, eval_images
from limbeck.metrics.fidelity import NUM_NEIGHBORS, nearest_images, neighbor_agreement
from limbeck.metrics.knn import knn_correct
from limbeck.metrics.representation import effective_rank
from limbeck.metrics.views import view_retrieval
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing

logger = logging.getLogger(__name__)

Verdict = Literal["better", "not better", "worse"]

FEWEST = 20  # held-out images: the standard error of a difference over fewer says little
BANK = 10_000  # images whose labels vote
K = 20  # neighbors that vote, or as many as the smallest class has images in the bank
VIEWS, VIEW_IMAGES = 8, 500
ERRORS = 2.0  # standard errors of a paired difference beyond which it counts
RANK_SHARE = 0.9  # of the start's effective rank: below it, features have lost directions


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measure of the start and of the adapted network, on the same images."""

    start: float
    adapted: float
    stderr: float | None = None
    """Standard error of the paired difference over images; None for a measure of all images at once."""

    @property
    def difference(self) -> float:
        """How much higher the adapted network is."""
        return self.adapted - self.start

    @property
    def sign(self) -> int:
        """1 or -1 where the difference exceeds two standard errors, else 0."""
        margin = ERRORS * (self.stderr or 0.0)
        return (self.difference > margin) - (self.difference < -margin)


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Contents of adaptation.json in a run folder."""

    verdict: Verdict
    weights: Literal["adapted", "start"]
    """Which weights `encoder/` holds."""
    images: int
    """Held-out images, which were not trained on."""
    bank: int = 0
    """Training images whose labels vote; 0 without labels."""
    knn: Figure | None = None
    """k-NN accuracy of the held-out images; None without labels of two classes."""
    view_retrieval: Figure | None = None
    """Share of an image's other views among the nearest views (`metrics.views`)."""
    effective_rank: Figure | None = None
    """RankMe of the held-out images."""
    neighbor_agreement: float | None = None
    """Share of an image's ten nearest images that both networks have in common."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote."""
        return from_json(cls, read_json(path), str(path))

    def save(self, path: Path) -> None:
        """Write JSON to `path`, whole or not at all."""
        write_json(path, to_json(self))

    def sentence(self) -> str:
        """Return the verdict with its evidence."""
        if self.images < FEWEST:
            few = plural(self.images, "held-out image")
            return (
                f"{self.verdict}: {few} cannot show a difference, which takes {FEWEST} at least; encoder/ holds the "
                "weights of the start"
            )
        place = "the adapted weights" if self.weights == "adapted" else "the weights of the start"
        return f"{self.verdict} than the start: {'; '.join(self._evidence())}; encoder/ holds {place}"

    def _evidence(self) -> list[str]:
        found = []
        if self.knn:
            found.append(f"k-NN accuracy of {plural(self.images, 'held-out image')} {_percent(self.knn)}")
        if self.view_retrieval:
            found.append(f"views that find each other {_percent(self.view_retrieval)}")
        if self.effective_rank:
            found.append(f"effective rank from {self.effective_rank.start:.0f} to {self.effective_rank.adapted:.0f}")
        if self.neighbor_agreement is not None:
            found.append(f"{self.neighbor_agreement:.0%} of the {NUM_NEIGHBORS} nearest images unchanged")
        return found if self.knn else [*found, "without labels, which alone can show an accuracy"]


def compare_with_start(
    start: Backbone,
    adapted: Backbone,
    store: Store,
    held_out: NDArray[np.int64],
    trained_on: NDArray[np.int64],
    how: Preprocessing,
    device: torch.device,
    seed: int = 0,
) -> Adaptation:
    """Compare a network with the one that it started from, on images that it was not trained on.

    With labels of two classes, the k-NN accuracy decides; without, views and rank do (`decide`). An adaptation that is
    not shown to be better is left for the start.

    Args:
        start, adapted: the two networks, of the same widths; both are moved to `device`.
        store: the images.
        held_out: rows to measure on.
        trained_on: rows whose labels vote, of which 10,000 are sampled.
        how: preprocessing of both.
        device: where to compute.
        seed: of the bank and of the views.
    """
    found = Adaptation(verdict="not better", weights="start", images=len(held_out))
    if len(held_out) < FEWEST:
        return found
    bank = np.sort(np.random.default_rng(seed).permutation(trained_on)[:BANK])
    bank = bank if store.labeled and len(np.unique(store.labels[bank])) > 1 else bank[:0]
    plain = eval_images(store, how.image_size, how.mean, how.std, device)
    features = [_features(network, plain, [held_out, bank], device) for network in (start, adapted)]
    (before, _), (after, _) = features
    found = replace(
        found,
        view_retrieval=_compare(*(_views(network, store, held_out, how, device, seed) for network in (start, adapted))),
        effective_rank=Figure(start=effective_rank(before).item(), adapted=effective_rank(after).item()),
        neighbor_agreement=neighbor_agreement(nearest_images(before), nearest_images(after)),
    )
    if len(bank):
        labels = [torch.from_numpy(np.array(store.labels[rows])).to(device) for rows in (held_out, bank)]
        found = replace(found, knn=_compare(*(_votes(*pair, *labels) for pair in features)), bank=len(bank))
    verdict = decide(found)
    return replace(found, verdict=verdict, weights="adapted" if verdict == "better" else "start")


def decide(found: Adaptation) -> Verdict:
    """Return the verdict on the figures: with labels the k-NN accuracy alone counts, without them views and rank.

    Views that find each other more often are what the contrast trains, also at the cost of everything else; so the
    effective rank must not have fallen below nine tenths of the start's.
    """
    if found.knn:
        return _VERDICTS[found.knn.sign]
    if not found.view_retrieval or not found.effective_rank:
        return "not better"
    lost = found.effective_rank.adapted < RANK_SHARE * found.effective_rank.start
    return "worse" if lost else _VERDICTS[found.view_retrieval.sign]


_VERDICTS: Mapping[int, Verdict] = {1: "better", 0: "not better", -1: "worse"}


def _features(
    network: Backbone, images: ImageFn, rows: list[NDArray[np.int64]], device: torch.device
) -> tuple[Tensor, ...]:
    """Return the final features of the images at each of several sets of rows."""
    last, bf16 = network.taps[-1], resolve_bf16("auto", device)
    show = "features for the verdict"
    return tuple(extract(network, images, r, taps=(last,), device=device, bf16=bf16, show=show)[last] for r in rows)


def _views(
    network: Backbone, store: Store, rows: NDArray[np.int64], how: Preprocessing, device: torch.device, seed: int
) -> Float[Tensor, " N"]:
    """Return `view_retrieval` of some images, under the second of BYOL's augmentations."""
    view = replace(preset("byol", how.image_size)[1], mean=how.mean, std=how.std)
    some = np.sort(np.random.default_rng(seed).permutation(rows)[:VIEW_IMAGES])
    found = [
        _features(network, augmented_images(store, view, number, device, seed), [some], device)[0]
        for number in range(VIEWS)
    ]
    return view_retrieval(torch.stack(found, dim=1))


def _votes(test: Tensor, train: Tensor, test_labels: Tensor, train_labels: Tensor) -> Float[Tensor, " N"]:
    """Return 1 for every row of `test` whose label the k-NN vote finds, else 0."""
    counts = train_labels.bincount()
    k = min(K, int(counts[counts > 0].min()))
    return knn_correct(train, train_labels, test, test_labels, k).double()


def _compare(start: Float[Tensor, " N"], adapted: Float[Tensor, " N"]) -> Figure:
    """Return the means of a measure of each image, and the standard error of their paired difference."""
    stderr = (adapted - start).std().item() / math.sqrt(len(start))
    return Figure(start=start.mean().item(), adapted=adapted.mean().item(), stderr=stderr)


def _percent(figure: Figure) -> str:
    return (
        f"from {100 * figure.start:.1f} to {100 * figure.adapted:.1f} % "
        f"({100 * figure.difference:+.1f} ± {100 * (figure.stderr or 0.0):.1f})"
    )
