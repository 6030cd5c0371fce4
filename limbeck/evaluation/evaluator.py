"""Evaluate every layer of a backbone, and the same network at its random initialization."""

import math
import platform
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

import torch

from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import UNTRAINED, Metric, Values
from limbeck.evaluation.metrics import all_metrics
from limbeck.evaluation.models import BackboneModel
from limbeck.evaluation.results import EvaluationResult, ImageSet, LayerResult
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing


def evaluate(
    backbone: Backbone,
    train: Store,
    test: Store,
    cfg: EvaluateConfig,
    *,
    preprocessing: Preprocessing,
    reference: Backbone | None = None,
) -> EvaluationResult:
    """Compute every metric at every depth of `backbone`: probes fitted on `train`, everything measured on `test`.

    Two stores without labels give the metrics that need none. The features of one backbone are held at a time; both
    backbones are moved to the device.

    Args:
        backbone: the network.
        train: labeled images for k-NN and probes.
        test: labeled images with the same label names.
        cfg: the settings.
        preprocessing: how the backbone expects its input, where `cfg` does not override it.
        reference: the same network at its random initialization; the values are added as `untrained_*`.

    Raises:
        UserError: labels that do not match, one store without labels, fewer than two test images, an unknown device.
    """
    started = time.perf_counter()
    data, preprocessing = EvalData.of(train, test, cfg), override(preprocessing, cfg)
    values = measure(MetricInputs(BackboneModel("network", backbone, preprocessing), data))
    if reference is not None:
        untrained = MetricInputs(BackboneModel("untrained network", reference, preprocessing), data)
        for depth, more in measure(untrained, untrained_only=True).items():
            values[depth] |= {UNTRAINED + name: value for name, value in more.items()}
    return EvaluationResult(
        layers=tuple(LayerResult(depth=depth, values=values[depth]) for depth in backbone.taps),
        config=cfg,
        linear_probe=data.linear_probe,
        classes=tuple(train.label_names) if data.labels else (),
        train=_image_set(train),
        test=_image_set(test),
        seconds=time.perf_counter() - started,
        hardware=_hardware(data.device),
        command=shlex.join(sys.argv),
    )


def measure(inputs: MetricInputs, *, untrained_only: bool = False) -> dict[int, Values]:
    """Return the values of every metric whose needs are met, at every depth of the model; None where not finite."""
    found: dict[int, Values] = {depth: {} for depth in inputs.depths}
    for name, metric in all_metrics().items():
        if metric.needs <= inputs.offers and (metric.untrained or not untrained_only):
            for depth, values in metric.compute(inputs).items():
                _check_columns(name, metric, values)
                found[depth] |= {key: _finite(value) for key, value in values.items()}
    return found


def override(preprocessing: Preprocessing, cfg: EvaluateConfig) -> Preprocessing:
    """Return `preprocessing` with the fields that `cfg` sets."""
    return replace(
        preprocessing,
        image_size=cfg.image_size or preprocessing.image_size,
        mean=cfg.mean or preprocessing.mean,
        std=cfg.std or preprocessing.std,
    )


def _check_columns(name: str, metric: Metric, values: Iterable[str]) -> None:
    undeclared = set(values) - {column.name for column in metric.columns}
    assert not undeclared, f"metric '{name}' computes {sorted(undeclared)} and declares no such columns"


def _finite(value: float | None) -> float | None:
    """Return None for what JSON cannot hold, such as the alignment ratio of a collapsed layer."""
    return value if value is not None and math.isfinite(value) else None


def _image_set(store: Store) -> ImageSet:
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
