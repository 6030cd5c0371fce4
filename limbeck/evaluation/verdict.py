"""Derive the verdict of an evaluation from its numbers: where to cut, and whether training has helped."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from limbeck.evaluation.hits import paired_error, unpack_hits
from limbeck.evaluation.metric import STDERR, standard_error
from limbeck.evaluation.references import FILTERS, MEAN_POSE, PIXELS, PROJECTED, UNTRAINED_NETWORK
from limbeck.evaluation.results import EvaluationResult, LayerResult, ModelScores

ERRORS = 2.0
"""Two accuracies differ where they are more than two standard errors of their paired difference apart."""
ADVICE = "start from trained weights (--from), distill patch filters (--teacher patch-filters), or train longer"
ADVICE_AFTER_FILTERS = "start from trained weights (--from), or train longer"
"""To a run that follows patch filters already."""
KEYPOINT_ERROR = "keypoint_error"
WITHOUT_TRAINING = (MEAN_POSE, UNTRAINED_NETWORK)
"""Baselines that a keypoint detector has to beat."""


class Standing(NamedTuple):
    """Comparison of an accuracy with those of others: their names, each with its own accuracy."""

    above: list[str]
    level: list[str]
    below: list[str]

    def text(self) -> str:
        """Return `"above raw pixels (19.6), below patch filters (42.0)"`."""
        groups = zip(("above", "level with", "below"), self, strict=True)
        return ", ".join(f"{word} {_list(names)}" for word, names in groups if names)


def main_column(result: EvaluationResult) -> str:
    """Return the column of the accuracy that a result is summed up by: k-NN, and of series the linear probe."""
    last = result.layers[-1].values
    return "linear" if "one_nn" in last and "linear" in last else "knn"


def cheapest_cut(result: EvaluationResult, column: str = "") -> LayerResult | None:
    """Return the lowest layer with an accuracy within one standard error of the best layer's; None without labels.

    The accuracy is that of `column`, by default of `main_column`.
    """
    column = column or main_column(result)
    scored = [(value, layer) for layer in result.layers if (value := layer.values.get(column)) is not None]
    if not scored:
        return None
    best = max(value for value, _ in scored)
    floor = best - standard_error(best, result.test.images)
    return next(layer for value, layer in scored if value >= floor)


def verdict(result: EvaluationResult) -> str:
    """Return a sentence about the cheapest good layer and the lines of reference; empty without labels.

    The accuracies are on the same images, so the error of a difference is the paired one.
    """
    if result.keypoints:
        return _places(result)
    found = _sentence(result, main_column(result))
    whitened = _sentence(result, "knn_whitened")
    return f"{found}; half-whitened: {whitened}" if whitened else found


def _places(result: EvaluationResult) -> str:
    """Compare the error of regressed keypoints with the lines of reference.

    A detector that is not better than no detector is said to be so first.
    """
    own = result.layers[-1].values
    values = [(model.name, model.values) for model in result.references if KEYPOINT_ERROR in model.values]
    found = Standing([], [], [])
    for name, other in values:
        gap = (other[KEYPOINT_ERROR] or 0.0) - (own[KEYPOINT_ERROR] or 0.0)
        error = ERRORS * math.hypot(*(v.get(KEYPOINT_ERROR + STDERR) or 0.0 for v in (own, other)))
        group = found.above if gap > error else found.below if gap < -error else found.level
        group.append(f"{name} ({100 * (other[KEYPOINT_ERROR] or 0.0):.2f})")
    groups = zip(("better than", "level with", "worse than"), found, strict=True)
    standing = ", ".join(f"{word} {_list(names)}" for word, names in groups if names)
    error = own.get(KEYPOINT_ERROR + STDERR) or 0.0
    sentence = (
        f"annotated keypoints are predicted to {100 * (own[KEYPOINT_ERROR] or 0.0):.2f} ± {100 * error:.2f} % of the "
        f"side{f', {standing}' if standing else ''}"
    )
    unbeaten = [name for name in WITHOUT_TRAINING if _is_in(name, [*found.level, *found.below])]
    return f"not yet better than {_list(unbeaten)}: {sentence}" if unbeaten else sentence


def _sentence(result: EvaluationResult, column: str) -> str:
    cut = cheapest_cut(result, column)
    if cut is None:
        return ""
    accuracy, images = cut.values[column], result.test.images
    assert accuracy is not None
    depth = result.layers[-1].depth
    kind = "k-NN" if column.startswith("knn") else column
    where = f"layer {cut.depth} of {depth}" if depth > 1 else "the network"
    own = f"{where} has {100 * accuracy:.1f} ± {100 * standard_error(accuracy, images):.1f} % {kind} accuracy"
    standing = stand(cut, result.references, column, images)
    sentence = f"{own}, {standing.text()}" if any(standing) else own
    unbeaten = [name for name in (PIXELS, FILTERS, PROJECTED) if _is_in(name, [*standing.level, *standing.below])]
    advice = ADVICE_AFTER_FILTERS if any(model.name == PROJECTED for model in result.references) else ADVICE
    return f"not yet better than {_list(unbeaten)}: {advice} ({sentence})" if unbeaten else sentence


def stand(layer: LayerResult, models: Iterable[ModelScores], column: str, images: int) -> Standing:
    """Compare an accuracy of a layer with those of `models` that have it, on the same `images` test images."""
    found = Standing([], [], [])
    for model in models:
        own, other = layer.values.get(column), model.values.get(column)
        if own is None or other is None:
            continue
        gap, error = own - other, _error(layer, model, column, images)
        group = found.above if gap > ERRORS * error else found.below if gap < -ERRORS * error else found.level
        group.append(f"{model.name} ({100 * other:.1f})")
    return found


def _error(layer: LayerResult, model: ModelScores, column: str, images: int) -> float:
    """Return the standard error of the difference of two accuracies; as if of unrelated images without both's hits."""
    pair = [scores.hits.get(column) for scores in (layer, model)]
    known = [unpack_hits(packed, images) for packed in pair if packed is not None]
    if len(known) == len(pair):
        return paired_error(*known)
    return math.hypot(*(standard_error(scores.values[column] or 0.0, images) for scores in (layer, model)))


def _is_in(name: str, shown: Sequence[str]) -> bool:
    return any(text.startswith(f"{name} (") for text in shown)


def _list(words: Sequence[str]) -> str:
    """Return `"a, b and c"`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
