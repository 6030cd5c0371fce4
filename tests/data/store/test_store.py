"""A store says what it holds, and refuses to open when its files disagree."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.core.errors import UserError
from limbeck.data.store.open import build_store, open_store
from limbeck.data.store.store import Store

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
    assert (len(disk), disk.size, disk.label_names, disk.labelled, disk.path) == (5, 8, ["0", "1", "2"], True, folder)
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
    assert (store.images == 255).all()
    assert (store.heights[0], store.widths[0]) == shape[1:3]
    assert not store.labelled


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (IMAGES.astype(np.float32), None, None, "float32"),
        (IMAGES.transpose(0, 3, 1, 2), None, None, r"\(5, 3, 8, 8\)"),
        (IMAGES[:0], None, None, r"\(0, 8, 8, 3\)"),
        (IMAGES, [1, 2], None, "5 images came with labels of shape"),
        (IMAGES, LABELS, ["a", "b"], "label 2 has no name"),
    ],
)
def test_arrays_that_are_no_store(
    images: np.ndarray, labels: list[int] | None, names: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Store.from_arrays(images, labels, names)


def test_labelled_means_every_row() -> None:
    store = Store.from_arrays(IMAGES, [0, 1, -1, -5, 1])
    assert not store.labelled
    assert store.labels.tolist() == [0, 1, -1, -1, 1]


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a store: it has no manifest"):
        Store.open(tmp_path)


def test_a_store_of_another_version(folder: Path) -> None:
    edit(folder, version=7, source="photos", unheard_of=True)
    with pytest.raises(UserError, match=r"version 7 and this limbeck reads version 1: .*'limbeck store photos "):
        Store.open(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}'])
def test_a_broken_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json' .*build the store again"):
        Store.open(folder)


def test_files_that_disagree_with_the_manifest(folder: Path) -> None:
    edit(folder, images=6)
    with pytest.raises(UserError, match=r"holds uint8 \(5, 8, 8, 3\), the manifest says uint8 \(6, 8, 8, 3\)"):
        Store.open(folder)


def test_an_index_of_another_length(folder: Path, tmp_path: Path) -> None:
    build_store(IMAGES[:3], tmp_path / "short")
    os.replace(tmp_path / "short" / "index.parquet", folder / "index.parquet")
    with pytest.raises(UserError, match="has 3 rows, the manifest says 5"):
        Store.open(folder)


@pytest.mark.parametrize("name", ["images.npy", "index.parquet"])
def test_a_file_that_is_cut_short(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-100])
    with pytest.raises(UserError, match="is damaged"):
        Store.open(folder)


def test_a_changed_pixel_is_found_by_verify(folder: Path) -> None:
    data = bytearray((folder / "images.npy").read_bytes())
    data[-1] ^= 1
    (folder / "images.npy").write_bytes(data)
    with pytest.raises(UserError, match="the content is not that of digest"):
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
    with pytest.raises(UserError, match="holds images of 8 pixels, not 16"):
        open_store(folder, store_size=16)
    with pytest.raises(UserError, match="is a store already"):
        build_store(folder, folder.with_name("other"))


def test_arrays_are_built_each_time(tmp_path: Path) -> None:
    assert len(open_store(IMAGES, tmp_path)) == 5
    assert len(open_store(IMAGES[:2], tmp_path)) == 2
