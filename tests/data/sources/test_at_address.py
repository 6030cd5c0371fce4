"""Sources at addresses are those on the disk: images, tar and parquet files; what fails is one sentence."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from limbeck.data.sources import at_address
from limbeck.data.sources.open import open_source
from limbeck.data.store.open import build_store
from tests.helpers.commands import Run


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


IMAGES = {f"{word}/{shade}.png": png(shade) for word in ("cats", "dogs") for shade in range(0, 200, 40)}


@pytest.fixture
def memory() -> Iterator[Any]:
    """Return the file system of `memory://`, empty before and after."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def places(memory: Any, tmp_path: Path) -> tuple[str, Path]:
    """Return an address and a folder with the same files: images, and a tar and a parquet file of them."""
    for name, data in IMAGES.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "a.tar", "w") as archive:
        archive.add(tmp_path / "photos", ".")
    (tmp_path / "tables").mkdir()
    table = {"image": list(IMAGES.values()), "label": [name.partition("/")[0] for name in IMAGES]}
    pq.write_table(pa.table(table), tmp_path / "tables" / "a.parquet")
    for file in tmp_path.rglob("*.*"):
        memory.pipe_file(f"/place/{file.relative_to(tmp_path).as_posix()}", file.read_bytes())
    return "memory://place", tmp_path


@pytest.mark.parametrize("inside", ["photos", "photos/cats/*.png", "tars", "tars/*.tar", "tables", "tables/a.parquet"])
def test_samples_are_those_on_the_disk(places: tuple[str, Path], inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_address, "AT_ONCE", 3)
    url, folder = places
    one = open_source(f"{url}/{inside}")
    pattern = "*" in inside and inside.endswith(".png")
    other = open_source(str(folder / (inside.rpartition("/")[0] if pattern else inside)))
    assert one.count == other.count
    assert one.label_names == other.label_names
    pairs = [(sample.content, sample.label) for sample in one.samples()]
    wanted = [(sample.content, sample.label) for sample in other.samples()]
    assert pairs == [(c.read_bytes() if isinstance(c, Path) else c, label) for c, label in wanted]
    assert pairs == [(sample.content, sample.label) for sample in one.samples()]  # again from the first


def test_a_store_has_the_images_of_one_from_the_disk(places: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = places
    one = build_store(f"{url}/photos", tmp_path / "1")
    other = build_store(folder / "photos", tmp_path / "2")
    assert one.digest == other.digest
    assert (tmp_path / "1" / "skipped.csv").read_bytes() == (tmp_path / "2" / "skipped.csv").read_bytes()


def test_the_fingerprint_changes_with_the_content(places: tuple[str, Path], memory: Any) -> None:
    url, _ = places
    before = open_source(f"{url}/photos").fingerprint
    assert open_source(f"{url}/photos").fingerprint == before
    memory.pipe_file("/place/photos/cats/0.png", png(3))
    assert open_source(f"{url}/photos").fingerprint != before
    before = open_source(f"{url}/tables").fingerprint
    memory.pipe_file("/place/tables/b.parquet", memory.cat_file("/place/tables/a.parquet"))
    assert open_source(f"{url}/tables").fingerprint != before


def test_a_file_that_went_away_is_skipped_and_the_rest_is_used(places: tuple[str, Path], memory: Any) -> None:
    source = open_source(f"{places[0]}/photos")
    memory.rm_file("/place/photos/dogs/80.png")
    contents = [sample.content for sample in source.samples()]
    assert sum(isinstance(content, bytes) for content in contents) == len(IMAGES) - 1
    assert len(contents) == len(IMAGES)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("memory://nowhere", "source-missing"),
        ("memory://place/photos/notes.txt", "no-images"),
        ("unheard-of://bucket/photos", "address-failed"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    places: tuple[str, Path], limbeck: Run, tmp_path: Path, address: str, code: str
) -> None:
    status, out, err = limbeck("store", address, tmp_path / "store", "--verbose")
    assert (status, out) == (1, "")
    assert err.rstrip().endswith(f"[{code}]")
    assert address in err
    assert "Traceback" not in err


def test_a_store_is_not_written_to_an_address(places: tuple[str, Path], limbeck: Run) -> None:
    status, _, err = limbeck("store", places[1] / "photos", "memory://place/store", "--verbose")
    assert status == 1
    assert "[store-at-address]" in err
