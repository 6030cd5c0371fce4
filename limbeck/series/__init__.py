"""Time series: sources, views, a dilated convolutional encoder, protocols, and a transformer for scikit-learn."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.series.data import SeriesData
    from limbeck.series.network import DilatedEncoder
    from limbeck.series.sources import open_series
    from limbeck.series.transformer import Encoder

__all__ = ["DilatedEncoder", "Encoder", "SeriesData", "open_series"]

_HOMES = {"DilatedEncoder": "network", "Encoder": "transformer", "SeriesData": "data", "open_series": "sources"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"limbeck.series has no public name '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"limbeck.series.{_HOMES[name]}"), name)
