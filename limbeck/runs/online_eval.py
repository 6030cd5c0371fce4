"""What an encoder is asked now and then while it is trained."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from limbeck.core.devices import resolve_bf16
from limbeck.core.types import Encoder
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.store.store import Store
from limbeck.evaluate.teacher_fidelity import fidelity_callback
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.metrics.fidelity import NUM_NEIGHBORS
from limbeck.metrics.knn import knn_accuracy
from limbeck.teachers import teacher_features
from limbeck.teachers.setup import TeacherContext
from limbeck.train.eval_callback import EvalCallback

BANK, QUERIES = 10_000, 2_000  # rows of the periodic k-NN: enough for about one percent of deviation


def make_eval_callback(store: Store, size: int, teacher_context: TeacherContext | None) -> EvalCallback | None:
    """Accuracy where there are labels, fidelity where there is a teacher; None where there is neither."""
    probes: list[Callable[[Encoder], dict[str, float]]] = []
    if store.labeled:
        probes.append(_accuracy(store, size))
    if teacher_context is not None and len(teacher_context.held_out) > NUM_NEIGHBORS + 1:
        probes.append(_fidelity(store, size, teacher_context))

    def probe(backbone: Encoder) -> dict[str, float]:
        return {name: value for ask in probes for name, value in ask(backbone).items()}

    return probe if probes else None


def _accuracy(store: Store, size: int) -> Callable[[Encoder], dict[str, float]]:
    """20-NN within the store: queries and bank are disjoint random rows."""
    rows = np.random.default_rng(0).permutation(len(store))[: BANK + QUERIES]
    queries = min(QUERIES, len(rows) // 5)
    labels = torch.from_numpy(store.labels[rows])

    def probe(backbone: Encoder) -> dict[str, float]:
        device = next(backbone.parameters()).device
        look = eval_images(store, size, IMAGENET_MEAN, IMAGENET_STD, device)
        found = extract(backbone, look, rows, device=device, bf16=resolve_bf16("auto", device))
        final = found[backbone.taps[-1]].cpu()
        return {"knn": knn_accuracy(final[queries:], labels[queries:], final[:queries], labels[:queries])}

    return probe


def _fidelity(store: Store, size: int, teacher_context: TeacherContext) -> Callable[[Encoder], dict[str, float]]:
    """Agreement with the teacher on the images that were held out."""
    device, rows = teacher_context.device, teacher_context.held_out

    @cache
    def ask() -> Callable[[Encoder], dict[str, float]]:
        teacher = teacher_features(
            teacher_context.frozen, store, rows, device=device, show="the teacher's held-out images"
        )
        return fidelity_callback(eval_images(store, size, IMAGENET_MEAN, IMAGENET_STD, device), rows, teacher, device)

    return lambda backbone: ask()(backbone)
