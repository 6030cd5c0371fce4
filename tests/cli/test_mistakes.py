"""A zoo of mistakes through the real command line: one sentence, exit status 1 (data, settings) or 2 (command).

Each error is expected by its code and by the values that its message names, whatever its wording.
"""

import io
import json
import pickle
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

Mistake = tuple[str, int, str | None, list[str]]
"""A command, its exit status, the code of its error (None where the parser of arguments refuses) and its values."""

COMMANDS: list[Mistake] = [
    ("pretran x", 2, "unknown-command", ["pretran", "pretrain"]),
    ("pretrain {store} --out {tmp}/run --epoch 3", 2, "unknown-option", ["'--epoch'", "'--epochs'"]),
    ("pretrain {store} --out {tmp}/run --epochs three", 2, None, ["'three'"]),
    ("export {run} {tmp}/out --format onxx", 2, None, ["'onxx'", "'onnx'"]),
    ("check {tmp}/letters --leave-out tinny", 2, None, ["'tinny'", "'tiny'"]),
]
SOURCES: list[Mistake] = [
    ("store {tmp}/nowhere {tmp}/out", 1, "source-missing", ["/nowhere'"]),
    ("store {tmp}/letter {tmp}/out", 1, "source-missing", ["/letter'", "'letters'"]),
    ("store {tmp}/empty {tmp}/out", 1, "no-images", ["/empty'"]),
    ("store {tmp}/texts {tmp}/out", 1, "no-images", ["/texts'", "1 file", ".txt"]),
    ("store {tmp}/texts/note.txt {tmp}/out", 1, "unknown-source", ["/note.txt'"]),
    (
        "store {tmp}/bad {tmp}/out",
        1,
        "too-many-bad-images",
        ["/bad'", "3 of the 4", "5 %", "1.jpg", "--allow-bad 0.76"],
    ),
    ("store {tmp}/allbad {tmp}/out", 1, "no-usable-image", ["/allbad'", "1.jpg"]),
    ("store {tmp}/letters {tmp}/out --allow-bad 5", 1, "bad-share", ["5.0"]),
    ("store {tmp}/letters {tmp}/out --store-size 0", 1, "bad-store-size", ["0 pixels"]),
    ("store {tmp}/letters {tmp}/out --store-size 100000", 1, "bad-store-size", ["100000 pixels", "4,096"]),
    ("store {tmp}/letters {tmp}/out --workers 0", 1, "bad-workers", ["0 workers"]),
    ("store {tmp}/letters {tmp}/texts", 1, "not-a-store", ["/texts'"]),
    ("store {tmp}/letters {tmp}/texts/note.txt/out", 1, "not-writable", ["/note.txt'"]),
    ("store {store} {tmp}/out", 1, "already-a-store", ["/store'"]),
    ("store {tmp}/broken.parquet {tmp}/out", 1, "bad-parquet", ["/broken.parquet'"]),
    ("store {tmp}/no_images.parquet {tmp}/out", 1, "no-image-column", ["/no_images.parquet'", "text"]),
    (
        "pretrain {tmp}/no_images.parquet --out {tmp}/run --window 9",
        2,
        "unknown-option",
        ["'--window'", "/no_images.parquet'", "`series`"],
    ),
    ("store {tmp}/cut.tar {tmp}/out", 1, "no-usable-image", ["/cut.tar'"]),
    ("store {tmp}/pickle.npy {tmp}/out", 1, "bad-array-file", ["/pickle.npy'"]),
    ("store {tmp}/objects.npz {tmp}/out", 1, "bad-array-file", ["/objects.npz'"]),
    ("store {tmp}/flat.npy {tmp}/out", 1, "bad-image-shape", ["/flat.npy'", "(256,)", "[N H W]"]),
    ("store {tmp}/ids.npz {tmp}/out", 1, "label-too-large", ["900000000000", "1,000,000"]),
    ("check {tmp}/nowhere", 1, "source-missing", ["/nowhere'"]),
    ("check {tmp}/bad --out {tmp}/table", 1, "too-many-bad-images", ["/bad'", "3 of the 4", "5 %"]),
    ("check {tmp}/bad --out {tmp}/table --build-store {tmp}/out", 1, "too-many-bad-images", ["/bad'", "3 of the 4"]),
    ("check {tmp}/letters --build-store {tmp}/texts", 1, "not-a-store", ["/texts'"]),
    ("check {tmp}/letters --out {tmp}/texts/note.txt", 1, "not-writable", ["/note.txt'"]),
    ("check {tmp}/letters --near-duplicates --similarity-threshold 7", 1, "threshold-out-of-range", ["7.0"]),
    ("check {store} --build-store {tmp}/out", 1, "already-a-store", ["/store'", "--build-store"]),
    ("check {tmp}/flipped", 1, "damaged-store", ["/flipped'"]),
]
STORES: list[Mistake] = [
    ("pretrain {tmp}/old --out {tmp}/run", 1, "other-store-version", ["/old'", "version 999", "version 1:"]),
    ("pretrain {tmp}/half --out {tmp}/run", 1, "not-json", ["/half/manifest.json'"]),
    ("pretrain {tmp}/cut --out {tmp}/run", 1, "damaged-store", ["/cut'", "images.npy"]),
    ("pretrain {tmp}/unindexed --out {tmp}/run", 1, "damaged-store", ["/unindexed'", "index.parquet"]),
    ("pretrain {tmp}/bad --out {tmp}/run", 1, "too-many-bad-images", ["/bad'", "3 of the 4"]),
    ("pretrain {store} --out {tmp}/run --store-size 99", 1, "other-store-size", ["/store'", "28", "99"]),
]
SETTINGS: list[Mistake] = [
    ("pretrain {store} --out {tmp}/run --method byoll", 1, "unknown-method", ["'byoll'", "'byol'"]),
    ("pretrain {store} --out {tmp}/run --method sdssl --method.host wmsee", 1, "unknown-method", ["'wmsee'", "'wmse'"]),
    ("pretrain {store} --out {tmp}/run --method sdssl --method.host sdssl", 1, "not-a-host", ["'sdssl'"]),
    (
        "pretrain {store} --out {tmp}/run --method simclr --method.host byol",
        1,
        "no-host",
        ["'simclr'", "--method.host"],
    ),
    (
        "pretrain {store} --out {tmp}/run --batch-size 32 --backbone resnet19",
        1,
        "unknown-backbone",
        ["'resnet19'", "'resnet18'"],
    ),
    ("pretrain {store} --out {tmp}/run --time soon", 2, "bad-time", ["'soon'", "30m"]),
    ("pretrain {store} --out {tmp}/run --quick --time 0s", 2, "bad-time", ["'0s'"]),
    ("pretrain {store} --out {tmp}/run --time 30m --epochs 3", 1, "time-and-epochs", ["30 min 0 s", "(3)"]),
    ("pretrain {store} --out {tmp}/run --time 1m --devices 2", 1, "time-with-processes", ["2 processes"]),
    (
        "distill {store} --teacher x --out {tmp}/run --method.head solved --method.moment-decay 1.5",
        2,
        "out-of-range",
        ["--method.moment-decay", "1.5"],
    ),
    ("plan {store} --time 0.001s --batch-size 32 --method simclr --backbone test_vit", 1, "time-too-short", ["0.0 s"]),
    ("pretrain {store} --out {tmp}/run --epochs 0", 2, "out-of-range", ["epochs is 0"]),
    (
        "pretrain {store} --out {tmp}/run --batch-size 32 --method simclr --method.views simclir",
        1,
        "unknown-views",
        ["'simclir'", "'simclr'"],
    ),
    (
        "pretrain {store} --out {tmp}/run --batch-size 32 --method sdssl --method.layers 99",
        1,
        "depth-out-of-range",
        ["99", "1 to 2"],
    ),
    ("pretrain {store} --out {tmp}/run --batch-size 32 --backbone.args [1]", 2, None, ["JSON"]),
    (
        'pretrain {store} --out {tmp}/run --batch-size 32 --backbone.args {{"checkpoint_path":"x"}}',
        2,
        None,
        ["'checkpoint_path'", "('x')"],
    ),
    ("pretrain {tmp}/letters --out {tmp}/run --max-images 0", 1, "out-of-range", ["0"]),
    ("resume {run}/encoder", 1, "not-a-run", ["/encoder'"]),
    ("pretrain {store} --out {run}", 1, "run-exists", ["/run'", "limbeck resume"]),
    ("pretrain {store} --out {tmp}/texts/note.txt/run --batch-size 32", 1, "not-writable", ["/note.txt/run'"]),
]
RUNS: list[Mistake] = [
    ("resume {tmp}/empty", 1, "not-a-run", ["/empty'"]),
    ("resume {tmp}/nowhere", 1, "not-a-run", ["/nowhere'"]),
    ("resume {tmp}/changed", 1, "checkpoint-config", ["training.epochs", "2.0", "3.0"]),
    ("resume {tmp}/no_json", 1, "not-json", ["/no_json/config.json'"]),
    ("resume {tmp}/unknown_key", 1, "unknown-key", ["'epohcs'", "'epochs'"]),
    ("resume {tmp}/wrong_type", 1, "wrong-type", ["training.epochs", "'many'", "float"]),
    ("resume {tmp}/lost_store", 1, "store-missing", ["/nowhere'", "--store STORE"]),
    ("resume {tmp}/other_store", 1, "store-changed", ["/store'", "/other_store'"]),
    ("resume {tmp}/no_checkpoint", 1, "checkpoint-unreadable", ["/no_checkpoint/checkpoint.ckpt"]),
    ("resume {tmp}/pickle", 1, "checkpoint-unreadable", ["/pickle/checkpoint.ckpt"]),
    ("resume {tmp}/other_network", 1, "checkpoint-state", ["/other_network/checkpoint.ckpt", "backbone"]),
    ("export {run} {tmp}/out --depth 9", 1, "depth-out-of-range", ["9", "1 to 3"]),
    ("export {tmp}/empty {tmp}/out", 1, "no-encoder", ["/empty "]),
    ("export {tmp}/no_weights {tmp}/out", 1, "damaged-encoder", ["/no_weights/model.safetensors"]),
    ("export {run} {tmp}/texts", 1, "out-not-empty", ["/texts'"]),
    ("evaluate {run} --train {store} --test {tmp}/letters", 1, "labels-differ", ["'a', 'b'"]),
    ("evaluate {run} --train {tmp}/letters --test {tmp}/letters --image-size 15", 1, "image-size", ["15"]),
    ("evaluate {run} --train {store} --test {tmp}/unlabelled", 1, "images-not-labeled", ["/unlabelled"]),
    ("evaluate {tmp}/empty --train {store} --test {store}", 1, "not-a-run", ["/empty'"]),
    ("report {tmp}/empty", 1, "not-a-run", ["/empty'"]),
    ("report {tmp}/no_result", 1, "not-a-result", ["/no_result/result.json'"]),
    ("report {tmp}/no_metrics", 1, "not-a-training-log", ["/no_metrics/metrics.csv'", "'one'"]),
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
    ("line", "status", "code", "values"),
    [*COMMANDS, *SOURCES, *STORES, *SETTINGS, *RUNS],
    ids=lambda value: value[:70] if isinstance(value, str) else "",
)
def test_a_mistake_gets_one_clear_sentence_and_leaves_nothing_behind(
    limbeck: Run,
    zoo: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    status: int,
    code: str | None,
    values: list[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    before = state(zoo) | state(trained.parent)
    words = [w.format(tmp=zoo, store=trained.parent / "store", run=trained) for w in line.split()]
    found, _, err = limbeck(*words, "--verbose")  # which adds the code to the message
    after = state(zoo) | state(trained.parent)
    restore(zoo, before)
    assert found == status, err
    assert "Traceback" not in err
    message = err.splitlines()[-1] if code else err
    if code:
        assert message.startswith("limbeck: ")
        assert message.endswith(f" [{code}]"), message
    assert [value for value in values if value not in message] == [], message
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


@pytest.mark.parametrize(
    ("verb", "end"),
    [("select", ".csv"), ("outliers", ".csv"), ("outliers", ".html"), ("embed", ".npy"), ("explore", ".html")],
)
def test_an_output_that_cannot_be_written_is_found_before_the_network(
    limbeck: Run, photos: Path, tmp_path: Path, verb: str, end: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / f"folder{end}").mkdir()
    for out, codes in (("file/a", ["not-writable"]), ("folder", ["not-ours", "out-exists"])):
        place = tmp_path / f"{out}{end}"
        status, printed, _ = limbeck(verb, photos, "--with", "no-network", "--out", place, "--json")
        error = json.loads(printed)["error"]
        assert status == 1
        assert error["code"] in codes
        assert str(tmp_path / Path(out).parts[0]) in error["message"]
