"""Self-supervised methods, one file each: the file's name is the method's name and its registration."""

import importlib
import pkgutil

from limbeck.core.errors import UserError, nearest
from limbeck.methods.base import DistillConfig, Host, HostConfig, Method, MethodConfig

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


def method_names() -> list[str]:
    """The names of all methods, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def method_config(name: str) -> type[MethodConfig]:
    """The configuration class of the method `name`; raises UserError with the nearest name."""
    names = method_names()
    if name not in names:
        raise UserError(f"unknown method '{name}'{nearest(name, names)}; the methods are {', '.join(names)}")
    config: type[MethodConfig] = importlib.import_module(f"{__name__}.{name}").Config
    return config


def distill_config(name: str) -> type[DistillConfig]:
    """The configuration class of the method `name` that learns from a teacher; UserError if it does not."""
    chosen = method_config(name)
    if not issubclass(chosen, DistillConfig):
        others = [other for other in method_names() if issubclass(method_config(other), DistillConfig)]
        raise UserError(
            f"{name} learns without a teacher: use `limbeck pretrain --method {name}`, or choose {', '.join(others)}"
        )
    return chosen
