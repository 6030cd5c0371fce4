"""Whatever bytes are in a file: it is read, or there is one sentence. Nothing runs, leaves its folder, or calls out."""

import io
import json
import pickle
import socket
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from limbeck.core.errors import UserError
from limbeck.data.sources.open import open_source
from limbeck.data.store.open import build_store, open_store
from limbeck.data.store.store import Store
from limbeck.evaluation.results import EvaluationResult
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.runs.config import read_config
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint
from limbeck.train.config import OptimConfig
from limbeck.train.optim import build_optimizer
from tests.helpers.errors import raises
from tests.helpers.toy import toy

fuzz = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """One of the ways in which a file comes to differ: cut, overwritten, something put in, another file altogether."""
    kind = draw(st.sampled_from(["cut", "overwrite", "insert", "replace"]))
    at, junk = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=40))

    def apply(data: bytes) -> bytes:
        place = int(at * len(data))
        if kind == "replace":
            return junk
        tail = {"cut": b"", "overwrite": junk + data[place + len(junk) :], "insert": junk + data[place:]}[kind]
        return data[:place] + tail

    return apply


def read_or_refused(read: Callable[[], object]) -> None:
    """Read the file or refuse it; any other error fails the test, and so does a refusal of several lines."""
    with suppress(UserError):
        try:
            read()
        except UserError as error:
            if "\n" in str(error):
                raise AssertionError(f"not one line: {error}") from error
            raise


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrusted") / "store"
    build_store((PIXELS, np.arange(12) % 3), folder)
    return folder


def damaged(folder: Path, name: str, change: Callable[[bytes], bytes], to: Path) -> Path:
    """Return a copy of a folder with one file changed."""
    to.mkdir(exist_ok=True)
    for file in folder.iterdir():
        data = file.read_bytes()
        (to / file.name).write_bytes(change(data) if file.name == name else data)
    return to


@pytest.mark.parametrize("name", ["images.npy", "index.parquet", "manifest.json", "source.parquet"])
@fuzz
@given(change=damage())
def test_a_store(store: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    folder = damaged(store, name, change, store.with_name(f"damaged-{name}"))

    def read() -> None:
        opened = Store.open(folder)
        assert opened.images.shape == (12, 8, 8, 3)
        assert opened.labels.max() < len(opened.label_names)
        assert opened.widths.min() > 0
        opened.verify()

    read_or_refused(read)


@fuzz
@given(key=st.sampled_from(["version", "images", "skipped", "size", "label_names", "digest", "source"]), value=JSON)
def test_a_manifest(store: Path, key: str, value: Any) -> None:
    def change(data: bytes) -> bytes:
        return json.dumps(json.loads(data) | {key: value}).encode()

    folder = damaged(store, "manifest.json", change, store.with_name("damaged-fields"))
    read_or_refused(lambda: Store.open(folder).verify())


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000, 8, 8, 3)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-12, 8, 8, 3)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (12, 8, 8, 3)}",
        "{'descr': '|u1', 'fortran_order': True, 'shape': (12, 8, 8, 3)}",
        "__import__('os').abort()",
        "(" * 5000,
    ],
)
def test_headers_of_arrays(store: Path, header: str) -> None:
    """Claims of sizes that are not there, objects, code."""
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    folder = damaged(store, "images.npy", lambda old: data + old[128:], store.with_name("damaged-header"))
    with raises("damaged-store", folder):
        Store.open(folder)
    alone = folder / "alone.npy"
    alone.write_bytes(data + PIXELS.tobytes())
    read_or_refused(lambda: open_source(alone))


@pytest.fixture(scope="module")
def array_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    np.save(folder / "a.npy", PIXELS)
    np.savez(folder / "b.npz", images=PIXELS, labels=np.arange(12))
    np.savez_compressed(folder / "c.npz", images=PIXELS)
    cells = [{"bytes": b"none", "path": "x.png"}] * 12
    pq.write_table(pa.table({"image": cells, "label": ["a", "b"] * 6}), folder / "d.parquet")
    with tarfile.open(folder / "e.tar", "w") as archive:
        for name, data in {"0.png": b"none", "0.cls": b"3", "1.png": b""}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("name", ["a.npy", "b.npz", "c.npz", "d.parquet", "e.tar"])
@fuzz
@given(change=damage())
def test_sources(array_files: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    file = array_files / f"damaged-{name}"
    file.write_bytes(change((array_files / name).read_bytes()))
    read_or_refused(lambda: list(open_source(file).samples()))


RUN = {
    "store": "store",
    "digest": "0",
    "method": {"name": "simclr"},
    "backbone": {"name": "vit_tiny_patch16_224", "image_size": 16},
    "optim": {"name": "adamw"},
    "training": {"epochs": 3},
}


@fuzz
@given(
    path=st.sampled_from([(k,) for k in RUN] + [(k, i) for k, v in RUN.items() if isinstance(v, dict) for i in v]),
    value=JSON,
)
def test_a_configuration(tmp_path_factory: pytest.TempPathFactory, path: tuple[str, ...], value: Any) -> None:
    changed: Any = json.loads(json.dumps(RUN))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    run = tmp_path_factory.getbasetemp()
    (run / "config.json").write_text(json.dumps(changed))
    read_or_refused(lambda: read_config(run))


TEXTS = [b"", b"\xff", b"[" * 100_000, b"[]", b"{}", b"3", b'{"limbeck": 3}', b'{"limbeck": {}}', b'{"a": 1e999}']


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:16])
def test_json_that_is_none_of_ours(tmp_path: Path, text: bytes) -> None:
    for name in ("config.json", "result.json", "model.safetensors"):
        (tmp_path / name).write_bytes(text)
    for read in (read_config, load, load_preprocessing, lambda folder: EvaluationResult.load(folder / "result.json")):
        with pytest.raises(UserError):
            read(tmp_path)


class Bomb:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def state() -> tuple[Any, Any]:
    method = toy()
    return method, build_optimizer(method, OptimConfig(lr=0.1))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "c.ckpt"
    save_checkpoint(path, 3, *state(), {"a": 1})
    return path


@fuzz
@given(change=damage())
def test_a_checkpoint(checkpoint: Path, change: Callable[[bytes], bytes]) -> None:
    """A changed weight is never read: a checksum says so. (Bytes between the records may change.)"""
    file = checkpoint.with_name("damaged.ckpt")
    file.write_bytes(change(checkpoint.read_bytes()))
    (whole, optimizer), (other, others) = state(), state()
    load_checkpoint(checkpoint, whole, optimizer, {"a": 1})

    def read() -> None:
        assert load_checkpoint(file, other, others, {"a": 1}) == 3
        for name, value in whole.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])

    read_or_refused(read)


def test_no_memory_is_read_for_a_record_that_is_marked_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    """The checksum of such a record holds, and torch returns memory that nobody filled."""
    content = checkpoint.read_bytes()
    entry = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    (marked := bytearray(content))[entry + 38] |= 0x10  # external attributes of the second record
    (file := tmp_path / "c.ckpt").write_bytes(marked)
    with raises("checkpoint-unreadable", file):
        load_checkpoint(file, *state(), {"a": 1})


@fuzz
@given(key=st.sampled_from(["version", "config", "step", "method", "optimizer"]), value=JSON)
def test_the_fields_of_a_checkpoint(checkpoint: Path, key: str, value: Any) -> None:
    content = torch.load(checkpoint, weights_only=True)
    file = checkpoint.with_name("fields.ckpt")
    for changed in (content | {key: value}, {k: v for k, v in content.items() if k != key}, value):
        torch.save(changed, file)
        read_or_refused(lambda: load_checkpoint(file, *state(), {"a": 1}))


def test_a_packed_checkpoint_is_not_unpacked(checkpoint: Path) -> None:
    """Torch stores its records as they are; a packed one of a megabyte may be a gigabyte of zeros."""
    file = checkpoint.with_name("packed.ckpt")
    with zipfile.ZipFile(checkpoint) as whole, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for record in whole.infolist():
            packed.writestr(record.filename, whole.read(record) or b"\0" * 2**20)
    with raises("checkpoint-unreadable", file):
        load_checkpoint(file, *state(), {"a": 1})


def test_pickles_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.array([Bomb()] * 3, dtype=object)
    np.save("a.npy", array, allow_pickle=True)
    np.savez("b.npz", images=array)
    Path("c.npy").write_bytes(pickle.dumps(Bomb()))
    torch.save({"version": 1, "config": "{}", "step": Bomb()}, "d.ckpt")
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(UserError, match="cannot be read as an array"):
            build_store(name, "store")
    with raises("checkpoint-unreadable", "d.ckpt"):
        load_checkpoint(Path("d.ckpt"), *state(), {})
    assert not Path("exploded").exists()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("way", ["../secret.png", "{tmp}/secret.png", "link.png"])
def test_a_path_in_a_table_cannot_leave_its_folder(tmp_path: Path, way: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (data / "link.png").symlink_to(tmp_path / "secret.png")
    cells = [{"bytes": None, "path": way.format(tmp=tmp_path)}, {"bytes": png(), "path": "../../fine.png"}]
    pq.write_table(pa.table({"image": cells}), data / "x.parquet")
    store = build_store(data / "x.parquet", tmp_path / "store", allow_bad=0.5)
    assert (len(store), store.skipped) == (1, 1)
    assert "outside the folder" in (tmp_path / "store" / "skipped.csv").read_text()


def test_a_name_in_a_shard_writes_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("../outside.png", f"{tmp_path}/absolute.png", "fine.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            archive.addfile(info, io.BytesIO(png()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = {path.name for path in tmp_path.parent.iterdir()}
    assert len(build_store(tmp_path / "x.tar", tmp_path / "store")) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"x.tar", "store", ".store.lock"}
    assert {path.name for path in tmp_path.parent.iterdir()} == before


def test_no_network_unless_the_hub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sockets that fail: everything but a hub name works, or says what is wrong, without opening one."""
    opened = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        opened.append(args)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.fromarray(PIXELS[number]).save(tmp_path / "photos" / f"{number}.png")
    assert len(open_store("photos")) == 4
    for missing in ("photos/cats", "photo", "a/b/c", "cats.png", "/no/where"):
        with raises("source-missing", missing):
            open_source(missing)
    (tmp_path / "model.safetensors").write_bytes(b"")
    for backbone in ({"args": {"pretrained": True}}, {"args": {"checkpoint_path": "x.pth"}}):
        config = {"backbone": backbone, "preprocessing": {}}
        (tmp_path / "config.json").write_text(json.dumps({"limbeck": config}))
        with pytest.raises(UserError, match=r"can make a library|is not the network"):
            load(tmp_path)
    assert not opened
