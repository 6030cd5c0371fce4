"""Tell sources of series from those of images, by their names and what they begin with, without numpy."""

import zipfile
from contextlib import suppress
from itertools import islice
from os import PathLike
from pathlib import Path

from limbeck.core.files import read_json
from limbeck.core.run_folder import ENCODER

ARRAY = "series"
"""Name of the array of values in a .npz file."""
FIRST = 20  # entries of a folder that are read


def is_series(source: object) -> bool:
    """Return whether a source is one of series: .ts, .tsv, .npz with `series`, a folder of .csv files, `SeriesData`."""
    if source is None:
        return False
    if not isinstance(source, str | Path):
        from limbeck.series.data import SeriesData

        return isinstance(source, SeriesData)
    path = Path(source).expanduser()
    if path.suffix in (".ts", ".tsv"):
        return True
    with suppress(OSError, zipfile.BadZipFile):
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return f"{ARRAY}.npy" in archive.namelist()
        return path.is_dir() and _holds_csv(path)
    return False


def holds_series_encoder(path: str | PathLike[str]) -> bool:
    """Return whether there is an encoder of series at `path`: a run, or its encoder."""
    return encoder_modality(path) == "series"


def encoder_modality(path: str | PathLike[str]) -> str:
    """Return the kind of data of the encoder at `path`, a run or its encoder; empty of images, or without one."""
    for folder in (Path(path) / ENCODER, Path(path)):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            found = read_json(folder / "config.json")
            about = found.get("limbeck") if isinstance(found, dict) else None
            return str(about.get("modality", "")) if isinstance(about, dict) else ""
    return ""


def _holds_csv(folder: Path) -> bool:
    """Return whether the first files of a folder, or else of a sub-folder, are CSV files."""
    entries = _visible(folder)
    inner = next((entry for entry in entries if entry.is_dir()), None)
    files = [entry for entry in entries if entry.is_file()] or ([] if inner is None else _visible(inner))
    return bool(files) and all(file.suffix == ".csv" for file in files)


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in islice(folder.iterdir(), FIRST) if not entry.name.startswith(".")]
