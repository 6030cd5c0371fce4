"""Folders of runs with results that were written by hand, and the body of a page about them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from limbeck.core.config import to_json
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.results import Comparison, EvaluationResult, ImageSet, LayerResult, ModelScores
from limbeck.methods import MethodConfig, method_config
from limbeck.models.config import BackboneConfig
from limbeck.runs.config import RunConfig
from limbeck.train.config import OptimConfig, TrainConfig

METRICS = "step,epoch,lr,loss,host,layer1,knn\n10,1.0,0.001,9.0,3.0,3.1,\n20,2.0,0.0005,8.0,2.0,2.1,0.875\n"
MOCO: Any = method_config("mocov3")
SDSSL: Any = method_config("sdssl")


def run_config(store: str = "stores/photos", method: MethodConfig | None = None) -> RunConfig:
    backbone = BackboneConfig(image_size=28, args={"patch_size": 7, "depth": 3})
    return RunConfig(
        store=store,
        digest="d",
        method=method or SDSSL(host=MOCO()),
        backbone=backbone,
        optim=OptimConfig(lr=1e-3),
        training=TrainConfig(epochs=100),
    )


def result(knn: tuple[float | None, ...] = (0.5, 0.893, 0.9), **changes: Any) -> EvaluationResult:
    layers = []
    for depth, accuracy in enumerate(knn, 1):
        values: dict[str, float | None] = {
            "parameters": 1000 * depth,
            "gflops": 0.01 * depth,
            "latency_ms": 0.5 * depth,
        }
        if accuracy is not None:
            values |= {"knn": accuracy, "untrained_knn": 0.3}
        layers.append(LayerResult(depth=depth, values=values))
    images = ImageSet(path="stores/photos", images=40, digest="d")
    found = EvaluationResult(
        layers=tuple(layers),
        config=EvaluateConfig(),
        linear_probe=None,
        classes=("a", "b"),
        train=images,
        test=images,
        seconds=2.0,
        hardware={"device": "cpu"},
        command="limbeck evaluate",
        image_size=28,
    )
    return dataclasses.replace(found, **changes)


def with_its_teacher() -> Comparison:
    values: dict[str, float | None] = {"parameters": 5_000_000, "gflops": 10.0, "knn": 0.955, "latency_ms": 9.0}
    teacher = ModelScores(name="teacher", image_size=32, values=values)
    values = {
        "parameters": 50_000,
        "gflops": 0.4,
        "knn": 0.912,
        "latency_ms": 1.0,
        "neighbor_agreement": 0.8,
        "cka": 0.9,
    }
    student = ModelScores(name="student", image_size=32, values=values)
    return Comparison(teacher=teacher, students=(student,), images=2001, num_neighbors=10)


def make_run(
    folder: Path, *, config: RunConfig | None = None, judged: EvaluationResult | None = None, metrics: str = ""
) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(to_json(config or run_config())))
    if metrics:
        (folder / "metrics.csv").write_text(metrics)
    if judged:
        (folder / "encoder").mkdir()
        judged.save(folder / "result.json")
    return folder


def body(page: Path) -> str:
    """Return the page without its style."""
    return page.read_text(encoding="utf-8").split("</head>")[1]
