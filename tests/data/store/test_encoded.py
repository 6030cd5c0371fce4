"""Encoded images are those of a raw store, whoever encodes and reads them; damage names the shard."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from limbeck.core.config import to_json
from limbeck.data import decoded_sample
from limbeck.data.augment.views import View
from limbeck.data.loader import Loader
from limbeck.data.sampling import view_specs
from limbeck.data.sources.base import Sample
from limbeck.data.store import encoded, encoded_writer, shards
from limbeck.data.store.encoded import Codec, EncodedImages, choose_codec
from limbeck.data.store.open import build_store
from limbeck.data.store.shards import ShardSpec, write_shard
from limbeck.data.store.store import Store
from limbeck.embeddings.source import embed_source
from tests.helpers.commands import Run
from tests.helpers.disk import room
from tests.helpers.errors import raises

VIEWS = view_specs([View(size=8, flip=0.5), View(size=6, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)])
COUNT, SHARD = 40, 16
BROKEN, COPY, ORIGINAL = 21, 35, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 40 images in two classes, one of them broken and one of them a copy."""
    place = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for row in range(COUNT):
        path = place / f"{row // 20}" / f"{row:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (12, 12 + row % 3, 3), dtype=np.uint8)).save(path)
    (place / "1" / f"{BROKEN}.png").write_bytes(b"broken")
    (place / "1" / f"{COPY}.png").write_bytes((place / "0" / f"{ORIGINAL:02d}.png").read_bytes())
    return place


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "SHARD", SHARD)


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD", SHARD)
        return build_store(folder, tmp_path_factory.mktemp("stores") / "store", keep="webp")


def content(store: Store) -> dict[str, bytes]:
    assert store.path
    return {path.name: path.read_bytes() for path in store.path.iterdir()}


def test_small_images_are_stored_without_loss_and_large_ones_at_the_quality_that_is_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    raw = build_store(folder, tmp_path / "raw")
    small = build_store(folder, tmp_path / "webp", keep="webp")
    np.testing.assert_array_equal(small.images[:], raw.images[:])
    for name in ("labels", "widths", "heights"):
        np.testing.assert_array_equal(getattr(small, name), getattr(raw, name))
    assert (len(small), small.size, small.label_names, small.skipped) == (39, 12, ["0", "1"], 1)
    assert any("WEBP without loss" in message for message in caplog.messages)
    large = build_store(folder, tmp_path / "jpeg", store_size=72, keep="jpeg")
    assert any("JPEG of quality 90" in message for message in caplog.messages)
    expected = build_store(folder, tmp_path / "large", store_size=72).images[5]
    codec = Codec("JPEG", 90)
    np.testing.assert_array_equal(large.images[5], codec.decode(codec.encode(expected), 72))
    assert (tmp_path / "webp" / "skipped.csv").read_bytes() == (tmp_path / "raw" / "skipped.csv").read_bytes()
    for store in (small, large):
        store.verify()


def test_the_bytes_do_not_depend_on_who_encodes(folder: Path, tmp_path: Path) -> None:
    one = build_store(folder, tmp_path / "one", keep="webp", workers=1)
    two = build_store(folder, tmp_path / "two", keep="webp", runner="local", workers=2)
    assert sorted(content(one)) == [
        *(f"images-0000{number}.bin" for number in range(3)),
        *("index.parquet", "manifest.json", "skipped.csv", "source.parquet"),
    ]
    assert content(one) == content(two)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["one", "two"]


def test_a_killed_build_does_the_missing_shards_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the last of three shards; then a shard is cut short, and another kill comes."""
    settings = {"keep": "webp", "leave_out": ("duplicate",), "workers": 1}
    whole = build_store(folder, tmp_path / "whole", **settings)  # type: ignore[arg-type]
    decode, decoded = decoded_sample.decode_sample, list[str]()

    def until(last: str) -> None:
        def watched(sample: Sample, size: int) -> decoded_sample.DecodedSample:
            if sample.path == last:
                raise KeyboardInterrupt
            decoded.append(sample.path)
            return decode(sample, size)

        decoded.clear()
        monkeypatch.setattr(decoded_sample, "decode_sample", watched)

    partial = tmp_path / ".store.partial"
    until("1/34.png")
    with pytest.raises(KeyboardInterrupt):
        build_store(folder, tmp_path / "store", **settings)  # type: ignore[arg-type]
    os.truncate(partial / "store" / "images-00001.bin", 100)
    (partial / "images-00002.jsonl").write_text("{")
    until("none")
    store = build_store(folder, tmp_path / "store", **settings)  # type: ignore[arg-type]
    assert len(decoded) == COUNT - SHARD
    assert content(store) == content(whole)
    assert (len(store), store.skipped) == (COUNT - 2, 2)
    store.verify()
    assert not partial.exists()


def test_a_build_of_something_else_starts_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encoded_writer.EncodedStoreWriter, "write_tables", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_store(folder, tmp_path / "store", keep="webp")
    monkeypatch.undo()
    assert len(build_store(folder, tmp_path / "store", keep="webp", quality=50)) == 39
    assert [record.levelname for record in caplog.records if "starting over" in record.message] == ["WARNING"]


def test_rows_are_indexed_as_those_of_an_array(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    images = store.images
    assert isinstance(images, EncodedImages)
    whole = images[:]
    assert images.shape == whole.shape
    assert images.nbytes == whole.nbytes
    even = np.arange(len(store)) % 2 == 0
    choices: list[Any] = [5, np.int64(-1), slice(30, 2, -3), np.array([7, 7, 0]), [3, 1], even, slice(0, 0)]
    for threads in (1, 3):
        monkeypatch.setattr(encoded, "decoding_threads", lambda threads=threads: threads)
        encoded._pool.cache_clear()
        for rows in choices:
            np.testing.assert_array_equal(images[rows], whole[rows])
    with pytest.raises(IndexError):
        images[len(store)]


def test_batches_are_those_of_a_raw_store(store: Store) -> None:
    raw = replace(store, images=store.images[:])
    batches = [
        next(Loader(s, VIEWS, 16, seed=3, device=torch.device("cpu")).batches(0, 1)) for s in (raw, store, store)
    ]
    for view in range(2):
        assert torch.equal(batches[0].views[view], batches[1].views[view])
        assert torch.equal(batches[1].views[view], batches[2].views[view])


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_damage_names_the_shard(store: Store, tmp_path: Path) -> None:
    assert store.path
    places = pq.read_table(store.path / "index.parquet", columns=["shard", "offset", "bytes"]).to_pylist()
    copies = [shutil.copytree(store.path, tmp_path / str(number)) for number in range(6)]
    name, bad = "images-00001.bin", 20
    (copies[0] / name).unlink()
    os.truncate(copies[1] / name, 50)
    edit(copies[2], lambda manifest: manifest["shards"].append(manifest["shards"][1]))
    edit(copies[3], lambda manifest: manifest["shards"][1].update(name="../images-00001.bin"))
    edit(copies[4], lambda manifest: manifest["shards"].pop())
    for number, words in enumerate([(name,), (name, 50), (name, "twice"), ("../images",), ("index.parquet",)]):
        with raises("damaged-store", copies[number], *words):
            Store.open(copies[number])
    data = bytearray((copies[5] / name).read_bytes())
    data[places[bad]["offset"] : places[bad]["offset"] + 20] = bytes(20)
    (copies[5] / name).write_bytes(data)
    changed = Store.open(copies[5])
    with raises("damaged-store", name, f"image {bad}"):
        changed.images[np.arange(len(changed))]
    with raises("damaged-store", name):
        changed.verify()


def test_settings_that_cannot_be_are_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    def build(source: Any = folder, **settings: Any) -> None:
        build_store(source, tmp_path / "store", **settings)

    with raises("lossy-small-images", 12, "--keep webp"):
        build(keep="jpeg")
    with raises("bad-quality", 101):
        build(keep="jpeg", quality=101)
    with raises("raw-no-quality", 90):
        build(quality=90)
    with raises("raw-no-shards", "local"):
        build(runner="local")
    with raises("images-in-memory", "array"):
        build(np.zeros((3, 8, 8, 3), np.uint8), keep="webp", runner="local")
    assert choose_codec("jpeg", 65, None).quality == choose_codec("webp", 65, None).quality == 90
    assert choose_codec("jpeg", 64, 80).quality == 80
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_worker_that_sees_another_source_refuses(folder: Path, tmp_path: Path) -> None:
    spec = ShardSpec(
        source=str(folder), exclude=(), only=(), max_images=None, fingerprint="other", size=12, keep="webp",
        quality=None, leave_out=(), samples=SHARD, folder=str(tmp_path),
    )  # fmt: skip
    with raises("source-differs", folder):
        write_shard(to_json(spec), 0)


def test_a_full_disk_keeps_the_shards_that_are_done(folder: Path, tmp_path: Path) -> None:
    with raises("disk-full", "images-00000.bin"), room(2000):
        build_store(folder, tmp_path / "store", keep="webp", store_size=32)
    assert not (tmp_path / "store").exists()


def test_from_the_command_line_to_embeddings(limbeck: Run, trained: Path, photos: Path, tmp_path: Path) -> None:
    for keep in ("raw", "webp"):
        code, out, err = limbeck("store", photos / "test", tmp_path / keep, "--keep", keep, "--json")
        assert code == 0, err
        assert json.loads(out)["keep"] == keep
    assert limbeck("check", tmp_path / "webp", "--out", tmp_path / "check")[0] == 0
    raw, webp = (embed_source(tmp_path / keep, trained, depths=[2]).features[2] for keep in ("raw", "webp"))
    np.testing.assert_array_equal(raw, webp)
