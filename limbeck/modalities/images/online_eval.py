"""Scores of an encoder while it is trained on images: k-NN accuracy and fidelity to a teacher."""

import numpy as np
import torch

from limbeck.core.devices import resolve_bf16
from limbeck.core.types import Encoder
from limbeck.data.store.store import Store
from limbeck.evaluation.teacher_fidelity import has_fidelity, held_out_fidelity
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.metrics.knn import knn_accuracy
from limbeck.teachers.setup import TeacherContext
from limbeck.train.eval_callback import EvalCallback

Normalization = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of the channels, for pixels in [0, 1]."""
BANK, QUERIES = 10_000, 2_000  # images of the periodic k-NN: enough for a standard error of about one percent


def make_eval_callback(
    store: Store, size: int, normalization: Normalization, teacher: TeacherContext | None
) -> EvalCallback | None:
    """Return accuracy if there are labels and fidelity if there is a teacher; None if there is neither."""
    callbacks: list[EvalCallback] = []
    if store.labeled:
        callbacks.append(_accuracy(store, size, normalization))
    if teacher is not None and has_fidelity(teacher):
        callbacks.append(held_out_fidelity(eval_images(store, size, *normalization, teacher.device), teacher))

    def evaluate_encoder(encoder: Encoder) -> dict[str, float]:
        return {name: value for callback in callbacks for name, value in callback(encoder).items()}

    return evaluate_encoder if callbacks else None


def _accuracy(store: Store, size: int, normalization: Normalization) -> EvalCallback:
    """Return the 20-NN accuracy within the store: queries and bank are disjoint random rows."""
    rows = np.random.default_rng(0).permutation(len(store))[: BANK + QUERIES]
    queries = min(QUERIES, len(rows) // 5)
    labels = torch.from_numpy(store.labels[rows])

    def evaluate_encoder(encoder: Encoder) -> dict[str, float]:
        device = next(encoder.parameters()).device
        images = eval_images(store, size, *normalization, device)
        features = extract(encoder, images, rows, device=device, bf16=resolve_bf16("auto", device))
        final = features[encoder.taps[-1]].cpu()
        return {"knn": knn_accuracy(final[queries:], labels[queries:], final[:queries], labels[:queries])}

    return evaluate_encoder
