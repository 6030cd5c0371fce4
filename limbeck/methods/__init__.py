"""Self-supervised methods: `NAME.py` is the method NAME and its registration, `config/NAME.py` has its options.

`from limbeck.methods import BYOL, BYOLConfig` works for the classes of every file, without a list of them here.
Options are read without torch, which is imported with the first method.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limbeck.core.errors import UserError, did_you_mean
from limbeck.methods.config.base import DistillConfig, HostConfig, MethodConfig

if TYPE_CHECKING:
    from limbeck.methods.base import Host, Method

__all__ = [
    "DistillConfig",
    "Host",
    "HostConfig",
    "Method",
    "MethodConfig",
    "distill_config",
    "method_config",
    "method_names",
]
_PARTS = ("base", "config")


def method_names() -> list[str]:
    """Return the names of all methods, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _PARTS)


def method_config(name: str) -> type[MethodConfig]:
    """Return the configuration class of the method `name`; UserError with the nearest name if there is none."""
    names = method_names()
    if name not in names:
        message = f"unknown method '{name}'{did_you_mean(name, names)}; the methods are {', '.join(names)}"
        raise UserError(message, code="unknown-method")
    return next(
        found
        for found in _classes(_module(f"config.{name}")).values()
        if issubclass(found, MethodConfig) and vars(found).get("name") == name
    )


def distill_config(name: str) -> type[DistillConfig]:
    """Return the configuration class of the distiller `name`; UserError if the method learns without a teacher."""
    chosen = method_config(name)
    if not issubclass(chosen, DistillConfig):
        others = [other for other in method_names() if issubclass(method_config(other), DistillConfig)]
        remedy = f"use `limbeck pretrain --method {name}`, or choose {', '.join(others)}"
        raise UserError(f"{name} learns without a teacher: {remedy}", code="no-distiller")
    return chosen


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _classes(module: ModuleType) -> dict[str, type]:
    """Return the public classes that the file of a method defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def __getattr__(name: str) -> Any:
    if name in ("Host", "Method"):
        return getattr(_module("base"), name)
    for method in () if name.startswith("_") else method_names():
        if name in (found := _classes(_module(f"config.{method}" if name.endswith("Config") else method))):
            return found[name]
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    modules = [_module(name) for method in method_names() for name in (method, f"config.{method}")]
    return sorted({*globals(), *(name for module in modules for name in _classes(module))})
