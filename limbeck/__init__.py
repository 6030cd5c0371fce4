"""Limbeck: turn unlabeled images into a small, strong vision backbone that can be cut at any layer.

The names below are imported when they are first used, so that `import limbeck` is quick.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime from 1.32 sends usage data, also on Linux

if TYPE_CHECKING:
    from limbeck.api.classify import classify, predict
    from limbeck.api.embed import embed
    from limbeck.api.episodes import episodes
    from limbeck.api.explore import explore
    from limbeck.api.exports import export_all, export_within
    from limbeck.api.finetune import finetune
    from limbeck.api.functions import adapt, compare, distill, evaluate, plan, pretrain, report, resume
    from limbeck.api.outliers import outliers
    from limbeck.api.run import Run
    from limbeck.api.search import index, search
    from limbeck.api.select import select, select_in_cycles
    from limbeck.core.errors import UserError
    from limbeck.data.check.scan import check
    from limbeck.data.store.open import build_store, open_store
    from limbeck.data.store.store import Store
    from limbeck.evaluation.config import EvaluateConfig
    from limbeck.exports.hub.push import push
    from limbeck.exports.write import export
    from limbeck.models.config import BackboneConfig
    from limbeck.models.encoder_io import load, load_preprocessing
    from limbeck.teachers.config import TeacherConfig
    from limbeck.train.config import OptimConfig, TrainConfig

__version__ = "0.1.0"

__all__ = [
    "BackboneConfig",
    "EvaluateConfig",
    "OptimConfig",
    "Run",
    "Store",
    "TeacherConfig",
    "TrainConfig",
    "UserError",
    "adapt",
    "build_store",
    "check",
    "classify",
    "compare",
    "distill",
    "embed",
    "episodes",
    "evaluate",
    "explore",
    "export",
    "export_all",
    "export_within",
    "finetune",
    "index",
    "load",
    "load_preprocessing",
    "open_store",
    "outliers",
    "plan",
    "predict",
    "pretrain",
    "push",
    "report",
    "resume",
    "search",
    "select",
    "select_in_cycles",
]

_HOMES = {
    "BackboneConfig": "limbeck.models.config",
    "EvaluateConfig": "limbeck.evaluation.config",
    "OptimConfig": "limbeck.train.config",
    "Run": "limbeck.api.run",
    "Store": "limbeck.data.store.store",
    "TeacherConfig": "limbeck.teachers.config",
    "TrainConfig": "limbeck.train.config",
    "UserError": "limbeck.core.errors",
    "adapt": "limbeck.api.functions",
    "build_store": "limbeck.data.store.open",
    "check": "limbeck.data.check.scan",
    "classify": "limbeck.api.classify",
    "compare": "limbeck.api.functions",
    "distill": "limbeck.api.functions",
    "embed": "limbeck.api.embed",
    "episodes": "limbeck.api.episodes",
    "evaluate": "limbeck.api.functions",
    "explore": "limbeck.api.explore",
    "export": "limbeck.exports.write",
    "export_all": "limbeck.api.exports",
    "export_within": "limbeck.api.exports",
    "finetune": "limbeck.api.finetune",
    "index": "limbeck.api.search",
    "load": "limbeck.models.encoder_io",
    "load_preprocessing": "limbeck.models.encoder_io",
    "open_store": "limbeck.data.store.open",
    "outliers": "limbeck.api.outliers",
    "plan": "limbeck.api.functions",
    "predict": "limbeck.api.classify",
    "pretrain": "limbeck.api.functions",
    "push": "limbeck.exports.hub.push",
    "report": "limbeck.api.functions",
    "resume": "limbeck.api.functions",
    "search": "limbeck.api.search",
    "select": "limbeck.api.select",
    "select_in_cycles": "limbeck.api.select",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"limbeck has no public name '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, which are imported when they are used, without those that this file needs itself."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
