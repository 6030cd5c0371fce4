"""Kinds of data, one module or package each: its name is its registration.

Images are the default: a run is one of another modality if its encoder
is, if its method trains on that alone, or if it recognizes the source.
"""

import importlib
import pkgutil
from functools import cache
from typing import Any

from limbeck.core.config import EncoderConfig
from limbeck.modalities.base import Modality

__all__ = ["Modality", "default_config", "find_modality", "modalities", "modality_named", "modality_of"]

DEFAULT = "images"


@cache
def modalities() -> tuple[Modality[Any, Any], ...]:
    """Return all modalities, the default one last, because it accepts every name and source."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in sorted(names, key=lambda n: (n == DEFAULT, n))]
    return tuple(module.MODALITY for module in modules)


def find_modality(source: object = None, encoder: str | None = None, only: str = "") -> Modality[Any, Any]:
    """Return the modality with an encoder of that name, or without a name the one that recognizes the source.

    `only` is the modality that a method trains on, which is found without an encoder if it takes the source; images,
    which take any, are not preferred for it.
    """
    found = modalities()
    if encoder is not None:
        return next(modality for modality in found if modality.encoder_config(encoder) is not None)
    for modality in found:
        if modality.name == only != DEFAULT and modality.takes(source):
            return modality
    return next(modality for modality in found if modality.recognizes(source))


def modality_named(name: str) -> Modality[Any, Any]:
    """Return the modality of a name that an encoder states; images, if it states none."""
    return next(modality for modality in modalities() if modality.name == (name or DEFAULT))


def default_config(encoder: str) -> EncoderConfig:
    """Return the configuration of an encoder of which only the name is given."""
    kind = find_modality(encoder=encoder).encoder_config(encoder)
    assert kind is not None, "`find_modality` returns a modality that has the encoder"
    config: EncoderConfig = kind(name=encoder)
    return config


def modality_of(cfg: EncoderConfig) -> Modality[Any, Any]:
    """Return the modality of a configured encoder."""
    return find_modality(encoder=cfg.name)
