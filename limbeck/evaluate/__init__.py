"""One pass over two stores judges every layer of a backbone, beside the same network at its random initialisation."""

import platform
import shlex
import sys
import time
from typing import Any

import torch

from limbeck.data.store.store import Store
from limbeck.evaluate.bench import Bench
from limbeck.evaluate.config import EvaluateConfig
from limbeck.evaluate.result import Data, Result, Row, finite
from limbeck.evaluate.scores import Scores
from limbeck.metrics.cost import Cost
from limbeck.metrics.representation import Geometry
from limbeck.models.backbone import Backbone

__all__ = ["EvaluateConfig", "Result", "Row", "evaluate"]


def evaluate(
    backbone: Backbone, train: Store, test: Store, cfg: EvaluateConfig, *, reference: Backbone | None = None
) -> Result:
    """Judge every tap of `backbone`: probes fitted on `train` and read on `test`, the geometry of `test`, the cost.

    `reference` is the same network at its random initialisation; its numbers stand beside. Two stores without labels
    give geometry and cost alone. One backbone's features are held at a time; both backbones are moved to the device.

    Raises:
        UserError: labels that do not match, one store without labels, fewer than two test images, an unknown device.
    """
    started = time.perf_counter()
    bench = Bench.of(train, test, cfg)
    scores = bench.scores(backbone, "features")
    geometries = bench.geometries(backbone)
    beside = bench.scores(reference, "features (random)") if reference is not None else {}
    costs = bench.costs(backbone)
    return Result(
        rows=tuple(_row(tap, costs[tap], scores[tap], geometries[tap], beside.get(tap)) for tap in backbone.taps),
        config=cfg,
        probe=bench.probe,
        classes=tuple(train.label_names) if bench.labels else (),
        train=_data(train),
        test=_data(test),
        seconds=time.perf_counter() - started,
        hardware=_hardware(bench.device),
        command=shlex.join(sys.argv),
    )


def _row(tap: int, cost: Cost, scores: Scores, geometry: Geometry, beside: Scores | None) -> Row:
    random = {f"random_{name}": value for name, value in beside._asdict().items()} if beside else {}
    measured = scores._asdict() | geometry._asdict() | random
    found: dict[str, Any] = {name: None if value is None else finite(value) for name, value in measured.items()}
    return Row(tap=tap, **cost._asdict(), **found)


def _data(store: Store) -> Data:
    return Data(path=str(store.path) if store.path else None, images=len(store), digest=store.digest)


def _hardware(device: torch.device) -> dict[str, str]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "processor": platform.processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
