"""Evaluate every layer of a backbone, and the same network at its random initialization."""

import platform
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from limbeck.core.errors import UserError, one_line
from limbeck.core.types import Dataset
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.measure import Measured, measure
from limbeck.evaluation.metric import UNTRAINED
from limbeck.evaluation.metrics import all_columns
from limbeck.evaluation.models import BackboneModel, EvaluatedModel
from limbeck.evaluation.references import UNTRAINED_NETWORK, measure_references
from limbeck.evaluation.results import EvaluationResult, ImageSet, LayerResult, ModelScores
from limbeck.evaluation.verdict import verdict
from limbeck.models.any_size import check_any_size
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing
from limbeck.models.eval_mode import eval_mode

Confusions = tuple[tuple[int, int, int], ...]
"""Label, predicted label, and how many test images have both."""


def evaluate(
    backbone: Backbone,
    train: Store,
    test: Store,
    cfg: EvaluateConfig,
    *,
    preprocessing: Preprocessing,
    reference: Backbone | None = None,
    references: Sequence[ModelScores] | None = None,
) -> EvaluationResult:
    """Compute every metric at every depth of `backbone`: probes fitted on `train`, everything measured on `test`.

    Two stores without labels give the metrics that need none. The features of one backbone are held at a time.

    Args:
        backbone: the network, which is moved to the device.
        train, test: labeled images for k-NN and probes, and to measure on; with the same label names.
        cfg: the settings.
        preprocessing: how the backbone expects its input, where `cfg` does not override it.
        reference: the same network at its random initialization; the values are added as `untrained_*`.
        references: lines of reference that have been measured already; None: those of `measure_references`.

    Raises:
        UserError: labels that do not match, or are in one store only; fewer than two test images; an unknown device; an
            image size that the network cannot take; masks or videos that cannot be used.
    """
    preprocessing = override(preprocessing, cfg)
    check_takes(backbone, preprocessing.image_size)
    if cfg.videos or cfg.revisited:
        check_any_size(backbone)
    data, model = EvalData.of(train, test, cfg), BackboneModel("network", backbone, preprocessing)
    untrained = None if reference is None else BackboneModel(UNTRAINED_NETWORK, reference, preprocessing)
    return evaluate_models(model, untrained, data, measure_references if references is None else references)


def evaluate_models(
    model: EvaluatedModel,
    untrained: EvaluatedModel | None,
    data: EvalData,
    references: Sequence[ModelScores] | Callable[[EvalData], Sequence[ModelScores]],
    nouns: tuple[str, str] = ("image", "images"),
) -> EvaluationResult:
    """Compute every metric at every depth of a model of data of any kind.

    Args:
        model: the network.
        untrained: the same network at its random initialization, if that is measured as well.
        data: training and test data, labels and settings.
        references: lines of reference, or what measures them after the models.
        nouns: what one row of the data is called, and several.
    """
    started = time.perf_counter()
    measured, confusions = _measure(model, data)
    if untrained is not None:
        _add_untrained(measured, MetricInputs(untrained, data))
    found = references(data) if callable(references) else references
    if untrained is not None and (data.labels or data.keypoints) and data.cfg.references:
        found = (_untrained(measured[model.depths[-1]], model.image_size), *found)
    result = EvaluationResult(
        layers=tuple(LayerResult(depth=depth, **measured[depth]._asdict()) for depth in model.depths),
        config=data.cfg,
        linear_probe=data.linear_probe,
        classes=tuple(data.train.label_names) if data.labels else (),
        keypoints=data.keypoints.names if data.keypoints else (),
        train=_image_set(data.train),
        test=_image_set(data.test),
        seconds=time.perf_counter() - started,
        hardware=_hardware(data.device),
        command=shlex.join(sys.argv),
        image_size=model.image_size,
        nouns=nouns,
        k=data.k if data.labels else None,
        references=tuple(found),
    )
    return replace(result, verdict=verdict(result), confusions=confusions)


def override(preprocessing: Preprocessing, cfg: EvaluateConfig) -> Preprocessing:
    """Return `preprocessing` with the fields that `cfg` sets."""
    return replace(
        preprocessing,
        image_size=cfg.image_size or preprocessing.image_size,
        mean=cfg.mean or preprocessing.mean,
        std=cfg.std or preprocessing.std,
    )


def check_takes(backbone: Backbone, size: int) -> None:
    """Raise UserError where a network cannot take images of `size` pixels."""
    try:
        with eval_mode(backbone):
            backbone(torch.zeros(1, 3, size, size, device=next(backbone.parameters()).device))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the network '{backbone.cfg.name}' cannot take images of {size} pixels ({one_line(error)}): "
            "leave --image-size out, or give a size that fits",
            code="image-size",
        ) from error


def _measure(model: EvaluatedModel, data: EvalData) -> tuple[dict[int, Measured], Confusions]:
    """Return the values of every metric at every depth, and the mistakes of the linear probe at the last one."""
    inputs = MetricInputs(model, data)
    measured = measure(inputs)
    if data.labels is None or not inputs.probe_predictions:
        return measured, ()
    pairs = zip(data.labels.test.tolist(), inputs.probe_predictions[inputs.depths[-1]].tolist(), strict=True)
    return measured, tuple((label, predicted, count) for (label, predicted), count in sorted(Counter(pairs).items()))


def _add_untrained(measured: dict[int, Measured], untrained: MetricInputs) -> None:
    """Add the values and hits of the untrained network to those of the same depths."""
    for depth, more in measure(untrained, untrained_only=True).items():
        measured[depth].values.update({UNTRAINED + name: value for name, value in more.values.items()})
        measured[depth].hits.update({UNTRAINED + name: packed for name, packed in more.hits.items()})


def _untrained(last: Measured, image_size: int) -> ModelScores:
    """Return the untrained network as a line of reference, from the values and hits of the last layer."""
    costs = {column.name: last.values[column.name] for column in all_columns("cost") if column.name in last.values}
    values = {name.removeprefix(UNTRAINED): last.values[name] for name in last.values if name.startswith(UNTRAINED)}
    hits = {name.removeprefix(UNTRAINED): last.hits[name] for name in last.hits if name.startswith(UNTRAINED)}
    return ModelScores(name=UNTRAINED_NETWORK, image_size=image_size, values=costs | values, hits=hits)


def _image_set(store: Dataset) -> ImageSet:
    return ImageSet(path=str(store.path) if store.path else None, images=len(store), digest=store.digest)


def _hardware(device: torch.device) -> dict[str, str]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "processor": platform.processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
