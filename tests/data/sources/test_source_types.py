"""A kind of source is one file: written into a copy of the package, it works from the command line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from limbeck.data.sources.open import open_source, source_types
from limbeck.data.store.store import Store
from tests.helpers.errors import raises
from tests.helpers.package_copy import copy_package, run_command

ZIP_SOURCE = '''"""Images in .zip files, and names of the form 'color:RED,GREEN,BLUE' for one image of that color."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from limbeck.data.fingerprint import file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, Sample, SourceType


def open_zip(files: Sequence[Path], name: str) -> ImageSource:
    def samples() -> Iterator[Sample]:
        for file in files:
            with zipfile.ZipFile(file) as archive:
                for member in sorted(archive.namelist()):
                    yield Sample(f"{file.name}/{member}", archive.read(member), int(member[0]))

    states = [file_state(file) for file in files]
    return ImageSource(name=name, samples=samples, count=None, fingerprint=state_fingerprint(states))


def open_color(name: str) -> ImageSource:
    pixels = np.full((8, 8, 3), [int(part) for part in name.removeprefix("color:").split(",")], np.uint8)
    return ImageSource(name="color", samples=lambda: iter([Sample(name, pixels)]), count=1)


SOURCE = SourceType(
    description=".zip files of images",
    suffixes=(".zip",),
    open_files=open_zip,
    accepts=lambda value: isinstance(value, str) and value.startswith("color:"),
    open_value=open_color,
)
'''


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_new_kind_of_source_is_one_file(tmp_path: Path) -> None:
    root = copy_package(tmp_path)
    (root / "limbeck" / "data" / "sources" / "zip_archive.py").write_text(ZIP_SOURCE)
    (tmp_path / "photos").mkdir()
    for part in range(2):
        with zipfile.ZipFile(tmp_path / "photos" / f"{part}.zip", "w") as archive:
            for label in range(3):
                archive.writestr(f"{label}.png", png(10 * label + part))
    for source, out in (("photos", "folder"), ("photos/1*.zip", "file"), ("color:1,2,3", "color")):
        run_command(root, "store", source, out)
    folder, file, color = (Store.open(tmp_path / out) for out in ("folder", "file", "color"))
    assert folder.images[:, 0, 0, 0].tolist() == [0, 10, 20, 1, 11, 21]
    assert folder.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert file.images[:, 0, 0, 0].tolist() == [1, 11, 21]
    assert pq.read_table(tmp_path / "folder" / "index.parquet")["path"][3].as_py() == "1.zip/0.png"
    assert np.unique(color.images[:]).tolist() == [1, 2, 3]


def test_a_missing_path_is_offered_nothing_that_only_python_can_give() -> None:
    objects = [kind.objects for kind in source_types().values() if kind.objects]
    assert len(objects) == 3
    with raises("source-missing", "photo.tar", ".parquet files") as missing:
        open_source("photo.tar")
    assert not [text for text in objects if text in str(missing.value)]
    with raises("unknown-source", *objects):
        open_source(3)  # type: ignore[arg-type]


def test_every_kind_declares_what_it_opens() -> None:
    kinds = source_types()
    assert set(kinds) == {"arrays", "at_address", "dataset", "folder", "hub", "lance", "parquet", "webdataset"}
    suffixes = [suffix for kind in kinds.values() for suffix in kind.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    assert all(bool(kind.suffixes) == (kind.open_files is not None) for kind in kinds.values())
