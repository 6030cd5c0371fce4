"""Limbeck: from a folder of unlabelled images to a small, strong vision backbone that can be cut at any layer.

The names below are imported when they are first used, so that `import limbeck` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.data.check.scan import check
    from limbeck.data.store.open import build_store, open_store
    from limbeck.data.store.store import Store
    from limbeck.models.encoder_io import load, load_preprocessing
    from limbeck.runs.api import distill, evaluate_run, plan, pretrain, resume

__version__ = "0.1.0"

_HOMES = {
    "Store": "limbeck.data.store.store",
    "build_store": "limbeck.data.store.open",
    "check": "limbeck.data.check.scan",
    "open_store": "limbeck.data.store.open",
    "load": "limbeck.models.encoder_io",
    "load_preprocessing": "limbeck.models.encoder_io",
    "distill": "limbeck.runs.api",
    "evaluate_run": "limbeck.runs.api",
    "plan": "limbeck.runs.api",
    "pretrain": "limbeck.runs.api",
    "resume": "limbeck.runs.api",
}

__all__ = [
    "Store",
    "build_store",
    "check",
    "distill",
    "evaluate_run",
    "load",
    "load_preprocessing",
    "open_store",
    "plan",
    "pretrain",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"limbeck has no public name '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
