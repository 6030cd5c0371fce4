"""Constants of a plan for many images: speeds and sizes of one image, one device and one machine."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from limbeck.core.config import from_file
from limbeck.core.errors import UserError

Origin = Literal["measured", "given"]


def _quantity(unit: str, part: Literal["machine", "image", "device"]) -> Any:
    return field(default=None, metadata={"unit": unit, "part": part})


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Numbers that arithmetic needs; None where a number is not known. A file has these keys."""

    cores: float | None = _quantity("cores of a machine", "machine")
    memory_bytes: float | None = _quantity("bytes of a machine", "machine")
    disk_bytes: float | None = _quantity("free bytes, for all machines", "machine")
    disk_bytes_per_second: float | None = _quantity("bytes/s that a machine reads in random order", "machine")
    network_bytes_per_second: float | None = _quantity("bytes/s between machines", "machine")
    store_size: float | None = _quantity("pixels, side of a stored image", "image")
    source_bytes: float | None = _quantity("bytes of an image of the source", "image")
    stored_bytes: float | None = _quantity("bytes of an encoded image", "image")
    build_core_seconds: float | None = _quantity("s of a core to decode, resize and encode an image", "image")
    read_core_seconds: float | None = _quantity("s of a core to decode a stored image", "image")
    step_images_per_second: float | None = _quantity("images/s of training steps, once pixels are read", "device")
    forward_images_per_second: float | None = _quantity("images/s of forward passes", "device")
    products_per_second: float | None = _quantity("FLOP/s of an exact neighbor search", "device")
    dim: float | None = _quantity("numbers of a vector of the network", "device")
    gradient_bytes: float | None = _quantity("bytes of the gradient of a step", "device")
    run_bytes: float | None = _quantity("bytes of checkpoints and encoder", "device")
    batch_size: float | None = _quantity("images per step of a device", "device")
    teacher_images_per_second: float | None = _quantity("images/s of forward passes of the teacher", "device")
    teacher_dim: float | None = _quantity("numbers of an answer of the teacher", "device")

    def __post_init__(self) -> None:
        """Raise UserError for a number that is not above 0."""
        for name, value in self.known().items():
            if value <= 0:
                raise UserError(f"{name} is {value:g}: it must be above 0", code="out-of-range")

    def known(self) -> dict[str, float]:
        """Return the constants that are known, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def need(self, name: str) -> float:
        """Return a number; UserError where it is not known."""
        value: float | None = getattr(self, name)
        if value is None:
            raise UserError(
                f"a plan needs {name} ({unit_of(name)}), which cannot be measured here: give it with --constants FILE",
                code="missing-constants",
            )
        return value

    def over(self, other: "Constants") -> "Constants":
        """Return these numbers, and those of `other` for what is not known."""
        return replace(other, **self.known())


def unit_of(name: str) -> str:
    """Return the unit of a constant, and what it is of."""
    return str(_fields()[name].metadata["unit"])


def names_of(part: str) -> list[str]:
    """Return the constants of a part: machine, image or device."""
    return [name for name, found in _fields().items() if found.metadata["part"] == part]


def read_constants(file: str | None) -> Constants:
    """Return the constants that a YAML or JSON file gives; none without a file. UserError for a wrong key or number."""
    return from_file(Constants, Path(file)) if file else Constants()


def _fields() -> Mapping[str, "dataclasses.Field[Any]"]:
    return {found.name: found for found in dataclasses.fields(Constants)}
