"""A zoo of mistakes through the real command line: one sentence, exit 1 (data, settings) or 2 (command), no trace."""

import io
import json
import pickle
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from limbeck.core.files import LOCK
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
    ("store {tmp}/texts {tmp}/out", 1, "holds no image: none of its 1 files"),
    ("store {tmp}/texts/note.txt {tmp}/out", 1, "no known source"),
    ("store {tmp}/bad {tmp}/out", 1, "3 of the 4 images .* more than the 5 % .*--allow-bad 0.76"),
    ("store {tmp}/allbad {tmp}/out", 1, "holds no image that can be used .*1.jpg: empty file"),
    ("store {tmp}/letters {tmp}/out --allow-bad 5", 1, "5.0 is no share"),
    ("store {tmp}/letters {tmp}/out --store-size 0", 1, "size 0 cannot hold"),
    ("store {tmp}/letters {tmp}/out --workers 0", 1, "0 workers"),
    ("store {tmp}/letters {tmp}/texts", 1, "exists and is not a store"),
    ("store {tmp}/letters {tmp}/texts/note.txt/out", 1, "cannot be written"),
    ("store {store} {tmp}/out", 1, "is a store already"),
    ("store {tmp}/broken.parquet {tmp}/out", 1, "cannot be read as parquet"),
    ("store {tmp}/no_images.parquet {tmp}/out", 1, "no column of images, only text"),
    ("store {tmp}/cut.tar {tmp}/out", 1, "cut.tar' cannot be read"),
    ("store {tmp}/pickle.npy {tmp}/out", 1, "cannot be read as an array"),
    ("store {tmp}/objects.npz {tmp}/out", 1, "cannot be read as an array"),
    ("store {tmp}/flat.npy {tmp}/out", 1, "not .N H W."),
    ("store {tmp}/ids.npz {tmp}/out", 1, "a label is 900000000000, and labels count classes"),
    ("check {tmp}/nowhere", 1, "nowhere' does not exist"),
    ("check {tmp}/bad --out {tmp}/table", 1, "3 of the 4 images .* more than the 5 %"),
    ("check {tmp}/bad --out {tmp}/table --build-store {tmp}/out", 1, "3 of the 4 images"),
    ("check {tmp}/letters --build-store {tmp}/texts", 1, "exists and is not a store"),
    ("check {tmp}/letters --out {tmp}/texts/note.txt", 1, "cannot be made"),
    ("check {store} --build-store {tmp}/out", 1, "is a store already"),
    ("check {tmp}/flipped", 1, "the content is not that of digest"),
]
STORES = [
    ("pretrain {tmp}/old --out {tmp}/run", 1, "version 999"),
    ("pretrain {tmp}/half --out {tmp}/run", 1, "manifest.json' cannot be read"),
    ("pretrain {tmp}/cut --out {tmp}/run", 1, "is damaged"),
    ("pretrain {tmp}/unindexed --out {tmp}/run", 1, "is damaged"),
    ("pretrain {tmp}/bad --out {tmp}/run", 1, "3 of the 4 images"),
    ("pretrain {store} --out {tmp}/run --store-size 99", 1, "holds images of 28 pixels, not 99"),
]
SETTINGS = [
    ("pretrain {store} --out {tmp}/run --method byoll", 1, "unknown method 'byoll' .did you mean 'byol'"),
    ("pretrain {store} --out {tmp}/run --method.host wmsee", 1, "unknown method 'wmsee'"),
    ("pretrain {store} --out {tmp}/run --method.host sdssl", 1, "choose another host"),
    ("pretrain {store} --out {tmp}/run --method simclr --method.host byol", 1, "leave --method.host out"),
    (f"pretrain {{store}} --out {{tmp}}/run {SMALL} --backbone resnet19", 1, "'resnet19' .did you mean 'resnet18'"),
    ("pretrain {store} --out {tmp}/run --batch-size 1000", 1, "1000 .* 160.* 160"),
    (
        f"pretrain {{store}} --out {{tmp}}/run {SMALL} --method simclr --method.views simclir",
        1,
        "did you mean 'simclr'",
    ),
    (f"pretrain {{store}} --out {{tmp}}/run {SMALL} --method.layers 99", 1, "layer 99"),
    (f"pretrain {{store}} --out {{tmp}}/run {SMALL} --backbone.args [1]", 2, "JSON"),
    (
        f'pretrain {{store}} --out {{tmp}}/run {SMALL} --backbone.args {{{{"checkpoint_path":"x"}}}}',
        1,
        "is no argument",
    ),
    ("pretrain {store} --out {run}", 1, "holds a run already"),
    (f"pretrain {{store}} --out {{tmp}}/texts/note.txt/run {SMALL}", 1, "note.txt/run' cannot be written"),
]
RUNS = [
    ("resume {tmp}/empty", 1, "has no config.json"),
    ("resume {tmp}/nowhere", 1, "has no config.json"),
    ("resume {tmp}/changed", 1, "another configuration: training.epochs"),
    ("resume {tmp}/no_json", 1, "is not valid JSON"),
    ("resume {tmp}/unknown_key", 1, "unknown key 'epohcs' .did you mean 'epochs'"),
    ("resume {tmp}/wrong_type", 1, "training.epochs is 'many', which is not of type"),
    ("resume {tmp}/lost_store", 1, "is not a store"),
    ("resume {tmp}/other_store", 1, "has changed since"),
    ("resume {tmp}/no_checkpoint", 1, "not a checkpoint that can be read"),
    ("resume {tmp}/pickle", 1, "not a checkpoint that can be read"),
    ("resume {tmp}/other_network", 1, "does not hold the state of this network"),
    ("export {run} {tmp}/out --depth 9", 1, "Depth 9 .* 1 to 3"),
    ("export {tmp}/empty {tmp}/out", 1, "holds no encoder"),
    ("export {tmp}/no_weights {tmp}/out", 1, "is not the network of its config.json"),
    ("export {run} {tmp}/texts", 1, "not an empty folder"),
    ("evaluate {run} --train {store} --test {tmp}/letters", 1, "label"),
    ("evaluate {run} --train {store} --test {tmp}/unlabelled", 1, "label"),
    ("evaluate {tmp}/empty --train {store} --test {store}", 1, "has no config.json"),
    ("report {tmp}/empty", 1, "has no config.json|no run"),
    ("report {tmp}/no_result", 1, "is not a result of limbeck evaluate"),
    ("report {tmp}/no_metrics", 1, "is not the log of a training"),
]


@pytest.mark.parametrize(
    ("line", "code", "sentence"), [*COMMANDS, *SOURCES, *STORES, *SETTINGS, *RUNS], ids=lambda value: str(value)[:70]
)
def test_a_mistake_gets_one_clear_sentence(
    limbeck: Run,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    sentence: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    make_mistakes(tmp_path, trained)
    before = content(tmp_path) | content(trained)
    words = [w.format(tmp=tmp_path, store=trained.parent / "store", run=trained) for w in line.split()]
    found, out, err = limbeck(*words)
    assert found == code, err
    assert re.search(sentence, " ".join((out + err).split())), err
    assert "Traceback" not in err
    if code == 1:
        assert err.splitlines()[-1].startswith("limbeck: ")
    after = content(tmp_path) | content(trained)
    new = {path for path in after if before.get(path) != after[path]}
    assert not {path for path in new if not path.startswith(("check/", "table/"))}, "something was left behind"


def content(folder: Path) -> dict[str, bytes | int]:
    """Every file below a folder: what is in it, or how much. Hidden ones are locks, and rows kept for a next build."""

    def visible() -> Iterator[Path]:
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                yield path

    return {
        str(path.relative_to(folder)): path.read_bytes() if path.stat().st_size < 10_000 else path.stat().st_size
        for path in visible()
    }


def make_mistakes(folder: Path, trained: Path) -> None:
    """Everything that can be wrong with a path."""
    make_sources(folder)
    make_files(folder)
    make_stores(folder, trained.parent / "store")
    make_runs(folder, trained)


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
    """Copies of a store, each with one file that is wrong."""
    manifest = json.loads((store / "manifest.json").read_text())
    pixels, index = (store / "images.npy").read_bytes(), (store / "index.parquet").read_bytes()
    link(folder / "old", store, "manifest.json", json.dumps(manifest | {"version": 999}).encode())
    link(folder / "half", store, "manifest.json", b'{"version": 1, "ima')
    link(folder / "cut", store, "images.npy", pixels[:-100])
    link(folder / "flipped", store, "images.npy", pixels[:-1] + bytes([pixels[-1] ^ 1]))
    link(folder / "unindexed", store, "index.parquet", index[:100])


def make_runs(folder: Path, trained: Path) -> None:
    """Copies of a run, each with one file that is wrong."""
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
    """A folder of links to the files of another one, but for one file."""
    copy.mkdir()
    for file in folder.iterdir():
        if file.name not in (name, LOCK):
            (copy / file.name).symlink_to(file)
    (copy / name).write_bytes(data)
