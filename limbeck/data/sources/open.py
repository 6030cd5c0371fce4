"""Open whatever the user names: find the kind of source that recognizes it."""

import importlib
import os
import pkgutil
from collections.abc import Sequence
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.text import plural
from limbeck.data import sources
from limbeck.data.sources.base import ImageSource, SourceType
from limbeck.data.sources.dataset import MapDataset
from limbeck.data.sources.folder import is_image, open_folder
from limbeck.data.store.layout import is_store

Source = str | Path | Sequence[str | Path] | NDArray[Any] | tuple[NDArray[Any], ArrayLike] | MapDataset


@cache
def source_types() -> dict[str, SourceType]:
    """Return every kind of source by the name of its module, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    modules = {name: importlib.import_module(f"{sources.__name__}.{name}") for name in names}
    return {name: module.SOURCE for name, module in modules.items() if hasattr(module, "SOURCE")}


def open_source(source: Source) -> ImageSource:
    """Return the samples of any kind of source.

    * a folder: the images below it, or else its files of one other kind
    * a file, or several as a list or as a pattern ('train-*.tar')
    * what another kind of source accepts: an array, a data set, a name on the Hugging Face hub

    Raises:
        UserError: the source is missing, empty, or not recognized.
    """
    if isinstance(source, str | Path):
        return _open_path(source)
    if isinstance(source, list | tuple) and source and all(isinstance(file, str | Path) for file in source):
        return _open_files([Path(file) for file in source], name=" ".join(map(str, source)))
    if (found := _open_value(source)) is not None:
        return found
    raise UserError(f"a {type(source).__name__} is not a source of images: give {_options()}", code="unknown-source")


def _open_path(source: str | Path) -> ImageSource:
    """Open a folder, a file, a pattern or, where there is none of these, a name that another source accepts."""
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if path.exists():
        return _open_files([path], name=str(path))
    if files := sorted(glob(str(path))):
        return _open_files([Path(file) for file in files], name=str(path))
    looks_like_a_file = path.suffix.lower() in _type_by_suffix() or is_image(path.name)
    if not looks_like_a_file and (found := _open_value(source)) is not None:
        return found
    similar = did_you_mean(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
    raise UserError(f"'{source}' does not exist{similar}: give {_options()}", code="source-missing")


def _open_folder(folder: Path) -> ImageSource:
    if is_store(folder):
        raise UserError(
            f"'{folder}' is a store already: use it as it is, or build another one from its source",
            code="already-a-store",
        )
    if (found := _open_value(folder)) is not None:
        return found
    images = open_folder(folder)
    if images.count:
        return images
    for kind in source_types().values():
        files = sorted(file for suffix in kind.suffixes for file in folder.rglob(f"*{suffix}"))
        if files and kind.open_files and kind.several_files:
            return kind.open_files(files, str(folder))
    if images.ignored:
        raise UserError(
            f"'{folder}' holds no image, only {plural(len(images.ignored), 'file')} with other suffixes, such as "
            f"{Path(images.ignored[0]).suffix or images.ignored[0]}",
            code="no-images",
        )
    raise UserError(f"'{folder}' is empty: give {_options()}", code="no-images")


def _open_files(files: Sequence[Path], name: str) -> ImageSource:
    for file in files:
        if not file.is_file():
            raise UserError(f"'{file}' is not an existing file", code="source-missing")
    kinds = {_type_by_suffix().get(file.suffix.lower()) for file in files}
    kind = kinds.pop()
    if kinds or kind is None or kind.open_files is None:
        raise UserError(f"'{name}' is not a source of images: give {_options()}", code="unknown-source")
    if len(files) > 1 and not kind.several_files:
        raise UserError(f"'{name}' matches {len(files)} files: give one {files[0].suffix} file", code="several-files")
    return kind.open_files(files, name)


def _open_value(value: Any) -> ImageSource | None:
    for kind in source_types().values():
        if kind.open_value is not None and kind.accepts(value):
            return kind.open_value(value)
    return None


def _type_by_suffix() -> dict[str, SourceType]:
    return {suffix: kind for kind in source_types().values() for suffix in kind.suffixes}


def _options() -> str:
    kinds = {"folder": source_types()["folder"]} | source_types()
    *first, last = (kind.description for kind in kinds.values())
    return f"{', '.join(first)} or {last}"
