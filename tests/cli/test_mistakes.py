"""A zoo of mistakes through the real command line: one sentence, exit status 1 (data, settings) or 2 (command)."""

import io
import json
import pickle
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from limbeck.core.locks import LOCK
from limbeck.core.run_folder import LOG
from tests.helpers.commands import Run

SMALL = "--batch-size 32"

COMMANDS = [
    ("pretran x", 2, "unknown command 'pretran' .did you mean 'pretrain'"),
    ("pretrain {store} --out {tmp}/run --epoch 3", 2, "--epochs"),
    ("pretrain {store} --out {tmp}/run --epochs three", 2, "three"),
    ("export {run} {tmp}/out --format onxx", 2, "onnx"),
    ("check {tmp}/letters --leave-out tinny", 2, "tiny"),
]
SOURCES = [
    ("store {tmp}/nowhere {tmp}/out", 1, "nowhere' does not exist"),
    ("store {tmp}/letter {tmp}/out", 1, "does not exist .did you mean 'letters'"),
    ("store {tmp}/empty {tmp}/out", 1, "empty' is empty"),
    ("store {tmp}/texts {tmp}/out", 1, "texts.* 1 file .*.txt"),
    ("store {tmp}/texts/note.txt {tmp}/out", 1, "note.txt"),
    ("store {tmp}/bad {tmp}/out", 1, "3 of the 4 images .* 5 % .*--allow-bad 0.76"),
    ("store {tmp}/allbad {tmp}/out", 1, "allbad.* 1.jpg"),
    ("store {tmp}/letters {tmp}/out --allow-bad 5", 1, "5.0"),
    ("store {tmp}/letters {tmp}/out --store-size 0", 1, "0 pixels"),
    ("store {tmp}/letters {tmp}/out --workers 0", 1, "0 workers"),
    ("store {tmp}/letters {tmp}/texts", 1, "exists and is not a store"),
    ("store {tmp}/letters {tmp}/texts/note.txt/out", 1, "cannot be written"),
    ("store {store} {tmp}/out", 1, "is a store already"),
    ("store {tmp}/broken.parquet {tmp}/out", 1, "cannot be read as parquet"),
    ("store {tmp}/no_images.parquet {tmp}/out", 1, "no_images.parquet.* text"),
    ("store {tmp}/cut.tar {tmp}/out", 1, "cut.tar"),
    ("store {tmp}/pickle.npy {tmp}/out", 1, "cannot be read as an array"),
    ("store {tmp}/objects.npz {tmp}/out", 1, "cannot be read as an array"),
    ("store {tmp}/flat.npy {tmp}/out", 1, "not .N H W."),
    ("store {tmp}/ids.npz {tmp}/out", 1, "900000000000"),
    ("check {tmp}/nowhere", 1, "nowhere' does not exist"),
    ("check {tmp}/bad --out {tmp}/table", 1, "3 of the 4 images .* 5 %"),
    ("check {tmp}/bad --out {tmp}/table --build-store {tmp}/out", 1, "3 of the 4 images"),
    ("check {tmp}/letters --build-store {tmp}/texts", 1, "exists and is not a store"),
    ("check {tmp}/letters --out {tmp}/texts/note.txt", 1, "note.txt"),
    ("check {store} --build-store {tmp}/out", 1, "is a store already"),
    ("check {tmp}/flipped", 1, "flipped.* is damaged"),
]
STORES = [
    ("pretrain {tmp}/old --out {tmp}/run", 1, "version 999"),
    ("pretrain {tmp}/half --out {tmp}/run", 1, "half/manifest.json"),
    ("pretrain {tmp}/cut --out {tmp}/run", 1, "is damaged"),
    ("pretrain {tmp}/unindexed --out {tmp}/run", 1, "is damaged"),
    ("pretrain {tmp}/bad --out {tmp}/run", 1, "3 of the 4 images"),
    ("pretrain {store} --out {tmp}/run --store-size 99", 1, "holds images of 28 pixels, not 99"),
]
SETTINGS = [
    ("pretrain {store} --out {tmp}/run --method byoll", 1, "unknown method 'byoll' .did you mean 'byol'"),
    ("pretrain {store} --out {tmp}/run --method sdssl --method.host wmsee", 1, "unknown method 'wmsee'"),
    ("pretrain {store} --out {tmp}/run --method sdssl --method.host sdssl", 1, "choose another host"),
    ("pretrain {store} --out {tmp}/run --method simclr --method.host byol", 1, "leave --method.host out"),
    (f"pretrain {{store}} --out {{tmp}}/run {SMALL} --backbone resnet19", 1, "'resnet19' .did you mean 'resnet18'"),
    ("pretrain {store} --out {tmp}/run --time soon", 1, "'soon' is not a time.* 30m"),
    ("pretrain {store} --out {tmp}/run --quick --time 0s", 1, "'0s' is not a time"),
    ("pretrain {store} --out {tmp}/run --time 30m --epochs 3", 1, "30 min 0 s.* and epochs .3. .*leave one out"),
    ("pretrain {store} --out {tmp}/run --time 1m --devices 2", 1, "2 processes: give epochs"),
    ("plan {store} --time 0.001s --batch-size 32", 1, "too short: a step takes .* give .*s or more"),
    ("pretrain {store} --out {tmp}/run --epochs 0", 2, "--epochs is 0"),
    (
        f"pretrain {{store}} --out {{tmp}}/run {SMALL} --method simclr --method.views simclir",
        1,
        "did you mean 'simclr'",
    ),
    (f"pretrain {{store}} --out {{tmp}}/run {SMALL} --method sdssl --method.layers 99", 1, "layer 99"),
    (f"pretrain {{store}} --out {{tmp}}/run {SMALL} --backbone.args [1]", 2, "JSON"),
    (
        f'pretrain {{store}} --out {{tmp}}/run {SMALL} --backbone.args {{{{"checkpoint_path":"x"}}}}',
        2,
        "checkpoint_path",
    ),
    ("pretrain {store} --out {run}", 1, "already contains a run"),
    (f"pretrain {{store}} --out {{tmp}}/texts/note.txt/run {SMALL}", 1, "note.txt/run' cannot be written"),
]
RUNS = [
    ("resume {tmp}/empty", 1, "is not a run folder"),
    ("resume {tmp}/nowhere", 1, "is not a run folder"),
    ("resume {tmp}/changed", 1, "another configuration: training.epochs"),
    ("resume {tmp}/no_json", 1, "is not valid JSON"),
    ("resume {tmp}/unknown_key", 1, "unknown key 'epohcs' .did you mean 'epochs'"),
    ("resume {tmp}/wrong_type", 1, "training.epochs is 'many', which is not of type"),
    ("resume {tmp}/lost_store", 1, "is not there: if it has moved"),
    ("resume {tmp}/other_store", 1, "has changed since"),
    ("resume {tmp}/no_checkpoint", 1, "is not a readable checkpoint"),
    ("resume {tmp}/pickle", 1, "is not a readable checkpoint"),
    ("resume {tmp}/other_network", 1, "does not hold the state of this network"),
    ("export {run} {tmp}/out --depth 9", 1, "depth 9 .* 1 to 3"),
    ("export {tmp}/empty {tmp}/out", 1, "has no encoder"),
    ("export {tmp}/no_weights {tmp}/out", 1, "is not the network of its config.json"),
    ("export {run} {tmp}/texts", 1, "not an empty folder"),
    ("evaluate {run} --train {store} --test {tmp}/letters", 1, "label"),
    ("evaluate {run} --train {store} --test {tmp}/unlabelled", 1, "label"),
    ("evaluate {tmp}/empty --train {store} --test {store}", 1, "is not a run folder"),
    ("report {tmp}/empty", 1, "is not a run folder"),
    ("report {tmp}/no_result", 1, "is not a result of `limbeck evaluate`"),
    ("report {tmp}/no_metrics", 1, "is not the log of a training"),
]


@pytest.fixture(scope="session")
def zoo(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that can be wrong with a path; whatever a test adds to it is removed again."""
    folder = tmp_path_factory.mktemp("zoo")
    make_sources(folder)
    make_files(folder)
    make_stores(folder, trained.parent / "store")
    make_runs(folder, trained)
    return folder


@pytest.mark.parametrize(
    ("line", "status", "sentence"), [*COMMANDS, *SOURCES, *STORES, *SETTINGS, *RUNS], ids=lambda value: str(value)[:70]
)
def test_a_mistake_gets_one_clear_sentence_and_leaves_nothing_behind(
    limbeck: Run,
    zoo: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    status: int,
    sentence: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    before = state(zoo) | state(trained.parent)
    words = [w.format(tmp=zoo, store=trained.parent / "store", run=trained) for w in line.split()]
    found, out, err = limbeck(*words)
    after = state(zoo) | state(trained.parent)
    restore(zoo, before)
    assert found == status, err
    assert re.search(sentence, " ".join((out + err).split())), err
    assert "Traceback" not in err
    if status == 1:
        assert err.splitlines()[-1].startswith("limbeck: ")
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path) and not hidden(path)}
    assert not {path for path in changed if "table" not in path.parts}, "something was left behind"
    assert {path.name for path in tmp_path.iterdir()} <= {"check", "home"}


def state(folder: Path) -> dict[Path, object]:
    """Return what every file below a folder holds (of large ones size and time), and an entry for every folder."""
    found: dict[Path, object] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        small = path.is_file() and path.stat().st_size < 10_000
        found[path] = path.read_bytes() if small else None if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


def hidden(path: Path) -> bool:
    """Return whether a file is a lock, rows of an unfinished build that the next one reuses, or the log of a run."""
    return path.name == LOG or any(part.startswith(".") for part in path.parts)


def restore(folder: Path, before: Mapping[Path, object]) -> None:
    """Remove what is in a folder but not in its earlier state."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path not in before:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def make_sources(folder: Path) -> None:
    for name in ("empty", "texts", "letters/a", "letters/b", "unlabelled", "bad", "allbad"):
        (folder / name).mkdir(parents=True)
    (folder / "texts" / "note.txt").write_text("no image")
    for place in ("letters/a", "letters/b", "unlabelled"):
        for number in range(3):
            Image.fromarray(np.full((28, 28), number, np.uint8)).save(folder / place / f"{number}.png")
    for place in ("bad", "allbad"):
        for number in range(3):
            (folder / place / f"{number + 1}.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(folder / "bad" / "fine.png")


def make_files(folder: Path) -> None:
    pixels = np.zeros((4, 8, 8), np.uint8)
    (folder / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    pq.write_table(pa.table({"text": ["a"]}), folder / "no_images.parquet")
    (folder / "pickle.npy").write_bytes(pickle.dumps(pixels))
    np.savez(folder / "objects.npz", images=np.array([{}, {}], dtype=object))
    np.save(folder / "flat.npy", pixels.ravel())
    np.savez(folder / "ids.npz", images=pixels, labels=np.array([0, 1, 2, 900_000_000_000]))
    with tarfile.open(folder / "whole.tar", "w") as archive:
        info = tarfile.TarInfo("0.png")
        info.size = 5000
        archive.addfile(info, io.BytesIO(b"0" * 5000))
    (folder / "cut.tar").write_bytes((folder / "whole.tar").read_bytes()[:3000])


def make_stores(folder: Path, store: Path) -> None:
    """Return copies of a store, each with one file that is wrong."""
    manifest = json.loads((store / "manifest.json").read_text())
    pixels, index = (store / "images.npy").read_bytes(), (store / "index.parquet").read_bytes()
    link(folder / "old", store, "manifest.json", json.dumps(manifest | {"version": 999}).encode())
    link(folder / "half", store, "manifest.json", b'{"version": 1, "ima')
    link(folder / "cut", store, "images.npy", pixels[:-100])
    link(folder / "flipped", store, "images.npy", pixels[:-1] + bytes([pixels[-1] ^ 1]))
    link(folder / "unindexed", store, "index.parquet", index[:100])


def make_runs(folder: Path, trained: Path) -> None:
    """Return copies of a run, each with one file that is wrong."""
    config = json.loads((trained / "config.json").read_text())

    def configured(name: str, **changes: Any) -> None:
        link(folder / name, trained, "config.json", (json.dumps(config | changes, indent=2) + "\n").encode())

    configured("changed", training=config["training"] | {"epochs": 3.0})
    configured("unknown_key", training=config["training"] | {"epohcs": 3})
    configured("wrong_type", training=config["training"] | {"epochs": "many"})
    configured("lost_store", store=str(folder / "nowhere"))
    configured("other_store", digest="0" * 32)
    link(folder / "no_json", trained, "config.json", b"{")
    link(folder / "no_checkpoint", trained, "checkpoint.ckpt", b"half of one")
    link(folder / "pickle", trained, "checkpoint.ckpt", pickle.dumps({"version": 1}))
    state = torch.load(trained / "checkpoint.ckpt", weights_only=True)
    buffer = io.BytesIO()
    torch.save(state | {"method": {}}, buffer)
    link(folder / "other_network", trained, "checkpoint.ckpt", buffer.getvalue())
    link(folder / "no_weights", trained / "encoder", "model.safetensors", b"none")
    link(folder / "no_result", trained, "result.json", b"{")
    link(folder / "no_metrics", trained, "metrics.csv", b"step,epoch\n1,one\n")


def link(copy: Path, folder: Path, name: str, data: bytes) -> None:
    """Return a folder of links to the files of another one, but for one file."""
    copy.mkdir()
    for file in folder.iterdir():
        if file.name not in (name, LOCK):
            (copy / file.name).symlink_to(file)
    (copy / name).write_bytes(data)
