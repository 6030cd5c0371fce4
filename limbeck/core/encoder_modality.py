"""Read the modality of the encoder in a folder, without loading it."""

from os import PathLike
from pathlib import Path

from limbeck.core.files import read_json
from limbeck.core.run_folder import ENCODER


def encoder_modality(path: str | PathLike[str]) -> str:
    """Return the kind of data of the encoder at `path`, a run or its encoder; empty of images, or without one."""
    for folder in (Path(path) / ENCODER, Path(path)):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            found = read_json(folder / "config.json")
            about = found.get("limbeck") if isinstance(found, dict) else None
            return str(about.get("modality", "")) if isinstance(about, dict) else ""
    return ""
