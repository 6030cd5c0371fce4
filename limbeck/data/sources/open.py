"""From whatever the user names to rows of images."""

import os
import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError, did_you_mean
from limbeck.data.sources.arrays import MapDataset, array_file_rows, array_rows, dataset_rows
from limbeck.data.sources.base import Rows
from limbeck.data.sources.folder import folder_rows, is_image
from limbeck.data.sources.parquet import hub_rows, parquet_rows
from limbeck.data.sources.webdataset import shard_rows
from limbeck.data.store.layout import is_store

Source = str | Path | Sequence[str | Path] | NDArray[Any] | tuple[NDArray[Any], ArrayLike] | MapDataset

KINDS = "a folder of images, .parquet, .tar, .npz or .npy files, or 'owner/name' on the Hugging Face hub"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w\[\]%:+-]+)?")


def read_source(source: Source) -> Rows:
    """Rows of any kind of source. Raises UserError when it is missing, empty or of no known kind.

    * a folder: images below it, else all its parquet files, else all its tar files
    * .parquet files, .tar files (WebDataset), one .npz or .npy file; several as a list or as a pattern ('train-*.tar')
    * a name on the Hugging Face hub, 'owner/name' or 'owner/name:split', when there is no such path
    * images [N H W] or [N H W C], (images, labels), or a map-style data set
    """
    if isinstance(source, str | Path):
        return read_path(source)
    if isinstance(source, np.ndarray):
        return array_rows(source, None, "array")
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray):
        return array_rows(source[0], source[1], "array")
    if isinstance(source, list | tuple) and source and all(isinstance(file, str | Path) for file in source):
        return read_files([Path(file) for file in source], name=" ".join(map(str, source)))
    if isinstance(source, MapDataset) and not isinstance(source, dict | bytes):
        return dataset_rows(source)
    raise UserError(f"a {type(source).__name__} is no known source of images: give {KINDS}, arrays or a data set")


def read_path(source: str | Path) -> Rows:
    """Rows of a folder, a file, a pattern or, when there is none of these, a hub name."""
    path = Path(source).expanduser()
    if path.is_dir():
        return read_folder(path)
    if path.exists():
        return read_files([path], name=str(path))
    if files := sorted(glob(str(path))):
        return read_files([Path(file) for file in files], name=str(path))
    known = path.suffix.lower() in READERS or is_image(path.name)
    here = path.parent.is_dir()  # then a name of two parts is a slip, and not for the network
    if isinstance(source, str) and HUB_NAME.fullmatch(source) and not known and not here:
        return hub_rows(source)
    similar = did_you_mean(path.name, os.listdir(path.parent)) if here else ""
    raise UserError(f"'{source}' does not exist{similar}: give {KINDS}")


def read_folder(folder: Path) -> Rows:
    """Images below a folder, else its parquet files, else its shards."""
    if is_store(folder):
        raise UserError(f"'{folder}' is a store already: open it as it is, or build again from its source")
    rows = folder_rows(folder)
    if rows.count:
        return rows
    for suffix in (".parquet", ".tar"):
        if files := sorted(folder.rglob(f"*{suffix}")):
            return READERS[suffix](files, str(folder))
    if rows.ignored:
        raise UserError(f"'{folder}' holds no image: none of its {len(rows.ignored):,} files is one by its suffix")
    raise UserError(f"'{folder}' is empty: a source is {KINDS}")


def read_files(files: Sequence[Path], name: str) -> Rows:
    """Rows of files of one kind."""
    for file in files:
        if not file.is_file():
            raise UserError(f"'{file}' is not a file that exists")
    suffixes = {file.suffix.lower() for file in files}
    suffix = suffixes.pop()
    if suffixes or suffix not in READERS:
        raise UserError(f"'{name}' is no known source of images: give {KINDS}")
    return READERS[suffix](files, name)


def one_array_file(files: Sequence[Path], name: str) -> Rows:
    """Rows of a single array file; UserError when there are several."""
    if len(files) > 1:
        raise UserError(f"'{name}' names {len(files)} array files: give one at a time")
    return array_file_rows(files[0])


READERS = {".parquet": parquet_rows, ".tar": shard_rows, ".npz": one_array_file, ".npy": one_array_file}
