"""Paths as they may travel: without the folders of the machine that wrote them."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from limbeck.core.config import Json


def without_absolute_paths(value: Json, folder: Path | None = None) -> Json:
    """Return JSON in which every path that leaves the current folder is replaced by its last part.

    Args:
        value: the JSON.
        folder: absolute paths below it are given relative to it instead.
    """
    if isinstance(value, dict):
        return {key: without_absolute_paths(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_absolute_paths(inner, folder) for inner in value]
    return portable_path(value, folder) if isinstance(value, str) else value


def portable_path(text: str, folder: Path | None = None) -> str:
    """Return text as it is, unless it is a path that leaves the current folder: then as `without_absolute_paths`."""
    if folder and Path(text).is_relative_to(folder):
        return str(Path(text).relative_to(folder))
    for kind in (PurePosixPath, PureWindowsPath):
        if (path := kind(text)).is_absolute() or path.parts[:1] in (("~",), ("..",)):
            return path.name
    return text
