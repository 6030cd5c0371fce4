"""A store says what it holds, and refuses to open when its files disagree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data.store.open import build_store, open_store, source_name
from limbeck.data.store.store import Store
from tests.helpers.errors import raises
from tests.helpers.sources import png, write_folder

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 1, 0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_store((IMAGES, LABELS), tmp_path / "store")
    return tmp_path / "store"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_store_on_disk_is_the_store_in_memory(folder: Path) -> None:
    memory, disk = Store.from_arrays(IMAGES, LABELS), Store.open(folder)
    assert isinstance(disk.images, np.memmap)
    for name in ("images", "labels", "widths", "heights"):
        left, right = getattr(memory, name), getattr(disk, name)
        assert np.array_equal(left, right)
        assert left.dtype == right.dtype
    assert (memory.digest, memory.label_names, memory.size) == (disk.digest, disk.label_names, disk.size)
    assert (len(disk), disk.size, disk.label_names, disk.labeled, disk.path) == (5, 8, ["0", "1", "2"], True, folder)
    disk.verify()
    memory.verify()


def test_the_files_are_those_of_the_format(folder: Path) -> None:
    import pyarrow.parquet as pq

    assert sorted(path.name for path in folder.iterdir()) == [
        "images.npy",
        "index.parquet",
        "manifest.json",
        "skipped.csv",
        "source.parquet",
    ]
    assert pq.read_table(folder / "index.parquet").column_names == ["row", "path", "label", "width", "height"]
    assert np.array_equal(np.load(folder / "images.npy", allow_pickle=False), IMAGES)


def test_the_digest_covers_all_that_training_sees() -> None:
    other = IMAGES.copy()
    other[4, 7, 7, 2] ^= 1
    stores = [
        Store.from_arrays(IMAGES, LABELS),
        Store.from_arrays(other, LABELS),
        Store.from_arrays(IMAGES, LABELS[::-1]),
        Store.from_arrays(IMAGES, [0, 1, 2, 1, 1]),
        Store.from_arrays(IMAGES),
        Store.from_arrays(IMAGES, LABELS, ["a", "b", "c"]),
    ]
    assert len({store.digest for store in stores}) == len(stores) - 1  # the reversed labels are the labels
    assert stores[0].digest == stores[2].digest


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 8, 1), (3, 8, 12, 3), (3, 12, 8), (3, 8, 8, 4)])
def test_arrays_of_any_shape_become_square_and_rgb(shape: tuple[int, ...]) -> None:
    store = Store.from_arrays(np.full(shape, 255, np.uint8))
    assert store.images.shape == (3, 8, 8, 3)
    assert (store.images[:] == 255).all()
    assert (store.heights[0], store.widths[0]) == shape[1:3]
    assert not store.labeled


@pytest.mark.parametrize(
    ("images", "labels", "names", "code", "value"),
    [
        (IMAGES.astype(np.float32), None, None, "bad-image-shape", "float32"),
        (IMAGES.transpose(0, 3, 1, 2), None, None, "bad-image-shape", "(5, 3, 8, 8)"),
        (IMAGES[:0], None, None, "bad-image-shape", "(0, 8, 8, 3)"),
        (IMAGES, [1, 2], None, "bad-labels", "(2,)"),
        (IMAGES, LABELS, ["a", "b"], "label-without-name", 2),
    ],
)
def test_arrays_that_are_no_store(
    images: np.ndarray, labels: list[int] | None, names: list[str] | None, code: str, value: object
) -> None:
    with raises(code, value):
        Store.from_arrays(images, labels, names)


def test_labelled_means_every_row() -> None:
    store = Store.from_arrays(IMAGES, [0, 1, -1, -5, 1])
    assert not store.labeled
    assert store.labels.tolist() == [0, 1, -1, -1, 1]


def test_what_is_no_store(tmp_path: Path) -> None:
    with raises("not-a-store", tmp_path):
        Store.open(tmp_path)


def test_a_store_of_another_version(folder: Path) -> None:
    edit(folder, version=7, source="photos", unheard_of=True)
    with raises("other-store-version", 7, 1, f"limbeck store photos {folder}"):
        Store.open(folder)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not-json"),
        ("{", "not-json"),
        ("[]", "damaged-store"),
        ("{}", "damaged-store"),
        ('{"version": 1}', "damaged-store"),
    ],
)
def test_a_broken_manifest(folder: Path, text: str, code: str) -> None:
    (folder / "manifest.json").write_text(text)
    with raises(code, folder / "manifest.json"):
        Store.open(folder)


def test_files_that_disagree_with_the_manifest(folder: Path) -> None:
    edit(folder, images=6)
    with raises("damaged-store", "(5, 8, 8, 3)", "(6, 8, 8, 3)"):
        Store.open(folder)


def test_an_index_of_another_length(folder: Path, tmp_path: Path) -> None:
    build_store(IMAGES[:3], tmp_path / "short")
    os.replace(tmp_path / "short" / "index.parquet", folder / "index.parquet")
    with raises("damaged-store", "3 rows", 5):
        Store.open(folder)


@pytest.mark.parametrize("name", ["images.npy", "index.parquet"])
def test_a_file_that_is_cut_short(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-100])
    with raises("damaged-store", folder):
        Store.open(folder)


def test_a_changed_pixel_is_found_by_verify(folder: Path) -> None:
    data = bytearray((folder / "images.npy").read_bytes())
    data[-1] ^= 1
    (folder / "images.npy").write_bytes(data)
    with raises("damaged-store", folder):
        Store.open(folder).verify()


def test_open_store_opens_stores_and_builds_the_rest_once(tmp_path: Path) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    Image.fromarray(IMAGES[0]).save(photos / "1.png")
    first = open_store(photos, cache)
    assert first.path is not None
    built = (first.path / "images.npy").stat().st_mtime_ns
    again = open_store(photos, cache)
    assert again.path == first.path == open_store(first.path).path
    assert (first.path / "images.npy").stat().st_mtime_ns == built
    assert open_store(photos, cache, store_size=4).size == 4
    Image.fromarray(IMAGES[1]).save(photos / "2.png")
    assert len(open_store(photos, cache)) == 2
    edit(first.path, version=0)
    assert len(open_store(photos, cache)) == 2


def test_a_store_has_the_size_it_has(folder: Path) -> None:
    assert open_store(folder, store_size=8).size == 8
    with raises("other-store-size", 8, 16):
        open_store(folder, store_size=16)
    with raises("already-a-store", folder):
        build_store(folder, folder.with_name("other"))


def test_arrays_are_built_each_time(tmp_path: Path) -> None:
    assert len(open_store(IMAGES, tmp_path)) == 5
    assert len(open_store(IMAGES[:2], tmp_path)) == 2


def test_the_size_that_is_made_names_a_store_and_not_the_size_that_is_asked_for(tmp_path: Path) -> None:
    """What `pretrain` stores at the size that it chooses, `evaluate` opens by that size."""
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(photos / f"{number}.png")
    chosen = open_store(photos, cache)
    assert open_store(photos, cache, store_size=8).path == chosen.path
    assert open_store(photos, cache, store_size=4).path != chosen.path
    assert sorted(path.name.split("-")[1] for path in cache.iterdir() if path.is_dir()) == ["4", "8"]


def test_reading_a_store_imports_no_decoder() -> None:
    code = (
        "import sys; from limbeck.data.store import Store; assert Store.open; "
        "assert not {'limbeck.data.decode', 'limbeck.data.sources', 'PIL'} & {*sys.modules}; "
        "from limbeck.data.store import build_store, open_store"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_store_in_the_cache_is_called_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos = write_folder(tmp_path / "photos", [("a.png", png(1)), ("b.png", png(2))])
    cached, own = open_store(photos), build_store(photos, tmp_path / "own")
    assert cached.path is not None
    assert own.path is not None
    assert (source_name(cached.path), source_name(own.path)) == (str(photos), str(tmp_path / "own"))
