"""Stores of decoded images: what training reads (`store`, `layout`) and what builds one (`open`, `build`, `writer`).

`from limbeck.data.store import Store` imports no decoder: the names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.data.store.open import build_store, open_store
    from limbeck.data.store.store import Store

_MODULES = {"Store": "store", "build_store": "open", "open_store": "open"}
__all__ = ["Store", "build_store", "open_store"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
