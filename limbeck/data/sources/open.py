"""Open whatever the user names: find the kind of source that recognizes it."""

import importlib
import logging
import os
import pkgutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from glob import escape, glob
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.text import plural, printable
from limbeck.data import sources
from limbeck.data.address import is_address
from limbeck.data.sources.base import ImageSource, SourceType
from limbeck.data.sources.dataset import MapDataset
from limbeck.data.sources.folder import open_folder
from limbeck.data.sources.foreign import no_images, unknown_files
from limbeck.data.sources.names import is_image, splits_in, why_hidden
from limbeck.data.sources.selection import EVERYTHING, Selection, all_excluded
from limbeck.data.store.layout import is_store

logger = logging.getLogger(__name__)
Source = str | Path | Sequence[str | Path] | NDArray[Any] | tuple[NDArray[Any], ArrayLike] | MapDataset


@cache
def source_types() -> dict[str, SourceType]:
    """Return every kind of source by the name of its module, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    modules = {name: importlib.import_module(f"{sources.__name__}.{name}") for name in names}
    return {name: module.SOURCE for name, module in modules.items() if hasattr(module, "SOURCE")}


def open_source(source: Source, selection: Selection = EVERYTHING) -> ImageSource:
    """Return the samples of any kind of source.

    * a folder: the images below it, or else its files of one other kind
    * a file, or several as a list or as a pattern ('train-*.tar')
    * what another kind of source accepts: an array, a data set, a name on the Hugging Face hub

    Raises:
        UserError: the source is missing, empty, or not recognized.
    """
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    if path is not None and path.is_dir():
        return _open_folder(path, selection)
    return selection.of(_open_other(source))


def _open_folder(folder: Path, selection: Selection) -> ImageSource:
    if is_store(folder):
        raise UserError(
            f"'{folder}' is a store already: use it as it is, or build another one from its source",
            code="already-a-store",
        )
    if (found := _open_value(folder)) is not None:
        return selection.of(found)
    images = open_folder(folder, selection.excluded)
    if images.count:
        selection.report(selection.without_use(item.path for item in images.left_out), images.name)
        _report_unread(folder, images)
        return selection.mark(images)
    return selection.of(_open_files_in(folder, images))


def _open_other(source: Source) -> ImageSource:
    if isinstance(source, str | Path):
        return _open_path(source)
    if isinstance(source, list | tuple) and source and all(isinstance(file, str | Path) for file in source):
        return _open_files([Path(file) for file in source], name=" ".join(map(str, source)))
    if (found := _open_value(source)) is not None:
        return found
    raise UserError(
        f"an object of type '{type(source).__name__}' is not a source of images: give {_options(objects=True)}",
        code="unknown-source",
    )


def _open_path(source: str | Path) -> ImageSource:
    """Open a file, a pattern or, where there is none of these, a name that another source accepts."""
    if is_address(source) and (found := _open_value(source)) is not None:
        return found
    path = Path(source).expanduser()
    if path.exists():
        return _open_files([path], name=str(path))
    if files := sorted(_matching(path)):
        return _open_files([Path(file) for file in files], name=str(path))
    looks_like_a_file = _kind_of(path.name) is not None or is_image(path.name)
    if not looks_like_a_file and (found := _open_value(source)) is not None:
        return found
    similar = did_you_mean(path.name, _visible_names(path.parent))
    raise UserError(f"'{source}' does not exist{similar}: give {_options()}", code="source-missing")


def _matching(pattern: Path) -> list[str]:
    """Return the files that fit a pattern; brackets in the names of its folders that exist are no pattern."""
    there = next(folder for folder in pattern.parents if folder.is_dir())
    within = Path(escape(str(there)), *pattern.parts[len(there.parts) :])
    return glob(str(within)) or glob(str(pattern))


def _visible_names(folder: Path) -> list[str]:
    with suppress(OSError):
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    return []


def _files_by_kind(images: ImageSource) -> Iterator[tuple[SourceType, list[str]]]:
    """Yield the kinds of source of which a folder holds files, and their paths in it."""
    visible = [item for item in images.left_out if item.issue.name == "not_an_image" and not why_hidden(item.path)]
    for kind in source_types().values():
        paths = [item.path for item in visible if kind.reads(item.path)]
        if paths and kind.open_files and kind.several_files:
            yield kind, paths


def _report_unread(folder: Path, images: ImageSource) -> None:
    """Warn where a folder holds images, perhaps a picture for its page, and files that may hold many more."""
    for kind, paths in _files_by_kind(images):
        logger.warning(
            "'%s' holds %s, and only that is used, not the images in %s, such as '%s': give %s by name for those",
            folder,
            plural(images.count or 0, "image"),
            plural(len(paths), "file"),
            printable(paths[0]),
            kind.description.partition(" (")[0],
        )


def _open_files_in(folder: Path, images: ImageSource) -> ImageSource:
    """Open the files of one other kind in a folder without images; those of further kinds are left out."""
    for kind, paths in _files_by_kind(images):
        _report_splits(paths, str(folder))
        assert kind.open_files is not None
        source = kind.open_files([folder / path for path in paths], str(folder))
        others = [item for item in images.left_out if item.path not in set(paths)]
        return replace(source, left_out=[*others, *source.left_out])
    excluded = [item for item in images.left_out if item.issue.name == "excluded"]
    if excluded:
        raise all_excluded(str(folder), excluded)
    if images.left_out:
        raise no_images(folder, [item.path for item in images.left_out])
    raise UserError(f"'{folder}' is empty: give {_options()}", code="no-images")


def _open_files(files: Sequence[Path], name: str) -> ImageSource:
    for file in files:
        if not file.is_file():
            raise UserError(f"'{file}' is not an existing file", code="source-missing")
    times = Counter(file.resolve() for file in files)
    if twice := next((file for file in files if times[file.resolve()] > 1), None):
        raise UserError(
            f"'{twice}' is listed twice, and its images would count twice: list every file once", code="listed-twice"
        )
    kinds = [_kind_of(file.name) for file in files]
    kind = kinds[0]
    if kind is None or kind.open_files is None or any(other is not kind for other in kinds):
        raise unknown_files(files, name, _options())
    if len(files) > 1 and not kind.several_files:
        raise UserError(f"'{name}' matches {len(files)} files: give one {files[0].suffix} file", code="several-files")
    _report_splits([str(Path(*file.parts[-2:])) for file in files], name)
    return kind.open_files(files, name)


def _report_splits(paths: Sequence[str], name: str) -> None:
    """Warn where files of several splits, such as train and test, become one source."""
    splits = splits_in(paths)
    if len(splits) > 1:
        logger.warning("the files of '%s' are from several splits, which are joined: %s", name, ", ".join(splits))


def _open_value(value: Any) -> ImageSource | None:
    for kind in source_types().values():
        if kind.open_value is not None and kind.accepts(value):
            return kind.open_value(value)
    return None


def _kind_of(name: str) -> SourceType | None:
    return next((kind for kind in source_types().values() if kind.reads(name)), None)


def _options(*, objects: bool = False) -> str:
    """Describe what a source can be: files, folders and names, and where a Python object was given also `objects`."""
    kinds = ({"folder": source_types()["folder"]} | source_types()).values()
    texts = [kind.description for kind in kinds] + [kind.objects for kind in kinds if objects]
    *first, last = filter(None, texts)
    return f"{', '.join(first)} or {last}"
