"""Limbeck: from a folder of unlabelled images to a small, strong vision backbone that can be cut at any layer.

The names below are imported when they are first used, so that `import limbeck` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.data.doctor import check
    from limbeck.data.store import Store, build_store, open_store
    from limbeck.models.encoder_io import load, load_preprocessing
    from limbeck.run import distill, evaluate_run, plan, pretrain, resume

__version__ = "0.1.0"

_HOMES = {
    "Store": "limbeck.data.store",
    "build_store": "limbeck.data.store",
    "check": "limbeck.data.doctor",
    "open_store": "limbeck.data.store",
    "load": "limbeck.models.encoder_io",
    "load_preprocessing": "limbeck.models.encoder_io",
    "distill": "limbeck.run",
    "evaluate_run": "limbeck.run",
    "plan": "limbeck.run",
    "pretrain": "limbeck.run",
    "resume": "limbeck.run",
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
