"""The real command line on real images: digits become a store, a run, a table, a cut, a page; and errors."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from limbeck.cli import main
from limbeck.data.samples import digits
from limbeck.methods import method_names

TINY = [
    "--backbone.args",
    '{"patch_size": 7, "embed_dim": 32, "depth": 3, "num_heads": 2}',
    "--method.hidden",
    "32",
    "--method.host.hidden",
    "32",
    "--method.host.dim",
    "16",
    "--epochs",
    "2",
    "--batch-size",
    "32",
    "--log-every",
    "2",
    "--knn-every",
    "1",
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def limbeck(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its exit code and what it wrote to stdout and stderr."""

    def run(*argv: str | Path) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(word) for word in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders train and test with a sub-folder per digit, 16 and 8 PNGs in each, and one file that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = digits()
    for digit in range(10):
        for number, image in enumerate(images[labels == digit][:24]):
            path = folder / ("train" if number < 16 else "test") / str(digit) / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    (folder / "train" / "3" / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="session")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default method on a store of those photographs."""
    folder = tmp_path_factory.mktemp("trained")
    main(["store", str(photos / "train"), str(folder / "store")])
    main(["pretrain", str(folder / "store"), "--out", str(folder / "run"), *TINY])
    return folder / "run"


def test_a_store_counts_every_file(limbeck: Run, photos: Path, tmp_path: Path) -> None:
    code, out, err = limbeck("store", photos / "train", tmp_path / "store")
    assert code == 0
    assert out.strip() == str(tmp_path / "store")
    assert re.search(r"160 images stored at 28 x 28 .* 1 not used .1 empty.", err)
    assert "broken.png" in (tmp_path / "store" / "skipped.csv").read_text()


def test_a_run_explains_itself(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["method"]["name"] == "sdssl"
    assert config["backbone"]["img_size"] == 28
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows][-1] == 10
    assert all(float(row["loss"]) > 0 for row in rows if row["loss"])
    assert 0 <= float(rows[-1]["knn"]) <= 1
    model = timm.create_model(f"local-dir:{trained / 'encoder'}", pretrained=True)
    assert model(torch.zeros(1, 3, 28, 28)).shape == (1, 32)


def test_evaluate_judges_every_layer(limbeck: Run, trained: Path, photos: Path) -> None:
    splits = ("--train", photos / "train", "--test", photos / "test")
    code, out, _ = limbeck("evaluate", trained, *splits, "--images-for-geometry", "20")
    assert code == 0
    for word in ("layer", "k-NN", "linear", "random"):
        assert word in out
    rows = json.loads((trained / "result.json").read_text())["rows"]
    assert [row["tap"] for row in rows] == [1, 2, 3]
    assert all(0 <= row["knn"] <= 1 and 0 <= row["random_knn"] <= 1 and row["linear"] > 0.1 for row in rows)
    assert [row["parameters"] for row in rows] == sorted(row["parameters"] for row in rows)


@pytest.mark.parametrize("kind", ["timm", "onnx"])
def test_export_proves_itself(limbeck: Run, trained: Path, tmp_path: Path, kind: str) -> None:
    code, out, err = limbeck("export", trained, tmp_path / "out", "--depth", "2", "--format", kind)
    assert code == 0
    assert out.strip() == str(tmp_path / "out")
    assert re.search(r"depth 2, 32 features, .* MB; largest difference from PyTorch \d.*; .* ms per image", err)


def test_report_is_a_page(limbeck: Run, trained: Path, tmp_path: Path) -> None:
    code, out, _ = limbeck("report", trained, "--out", tmp_path / "page.html")
    assert code == 0
    assert out.strip() == str(tmp_path / "page.html")
    assert "<html" in (tmp_path / "page.html").read_text()


def test_a_run_that_is_over_resumes_to_itself(limbeck: Run, trained: Path) -> None:
    before = (trained / "encoder" / "model.safetensors").read_bytes()
    code, out, _ = limbeck("resume", trained)
    assert code == 0
    assert out.strip() == str(trained)
    assert (trained / "encoder" / "model.safetensors").read_bytes() == before


def test_a_plain_folder_is_enough(limbeck: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, out, err = limbeck("pretrain", photos / "train", *TINY, "--epochs", "1", "--method", "sdssl")
    assert code == 0, err
    assert out.strip() == "runs/sdssl-train"
    assert "28 x 28" in err


def test_methods_are_listed_with_what_they_cost(limbeck: Run) -> None:
    code, out, err = limbeck("methods")
    assert code == 0
    assert set(method_names()) <= set(out.split())
    assert "supervised" in err


def test_names_decide_which_options_there_are(limbeck: Run) -> None:
    code, out, _ = limbeck("pretrain", "--help", "--method", "sdssl", "--method.host", "simclr")
    assert code == 0
    assert "--method.host.temperature" in out
    _, out, _ = limbeck("pretrain", "--help", "--method=byol")
    assert "--method.momentum" in out
    assert "--method.host." not in out


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        ("pretran x", 2, "unknown command 'pretran' .did you mean 'pretrain'"),
        ("store {tmp}/nowhere {tmp}/out", 1, "nowhere' does not exist"),
        ("store {tmp}/empty {tmp}/out", 1, "empty' is empty"),
        ("store {tmp}/texts {tmp}/out", 1, "no image"),
        ("pretrain {store} --out {tmp}/run --method byoll", 1, "unknown method 'byoll' .did you mean 'byol'"),
        ("pretrain {store} --out {tmp}/run --method.host wmsee", 1, "unknown method 'wmsee'"),
        ("pretrain {store} --out {tmp}/run --method.host sdssl", 1, "choose another host"),
        ("pretrain {store} --out {tmp}/run --method simclr --method.host byol", 1, "leave --method.host out"),
        ("pretrain {store} --out {tmp}/run --batch-size 32 --backbone resnet19", 1, "'resnet19' .did you mean 'resnet18'"),
        ("pretrain {store} --out {tmp}/run --epoch 3", 2, "--epochs"),
        ("pretrain {store} --out {tmp}/run --epochs three", 2, "three"),
        ("pretrain {store} --out {tmp}/run --batch-size 1000", 1, "batch of 1000 .* 160.* would do is 160"),
        ("pretrain {store} --out {tmp}/run --method simclr --method.views simclir", 1, "did you mean 'simclr'"),
        ("pretrain {store} --out {tmp}/run --method.layers 99", 1, "layer 99"),
        ("pretrain {store} --out {run}", 1, "holds a run already"),
        ("pretrain {tmp}/old --out {tmp}/run", 1, "version 999"),
        ("resume {tmp}/empty", 1, "has no config.json"),
        ("resume {tmp}/changed", 1, "another configuration: train.epochs"),
        ("export {run} {tmp}/out --depth 9", 1, "Depth 9 .* 1 to 3"),
        ("export {run} {tmp}/out --format onxx", 2, "onnx"),
        ("export {tmp}/empty {tmp}/out", 1, "holds no encoder"),
        ("export {run} {tmp}/texts", 1, "not an empty folder"),
        ("evaluate {run} --train {store} --test {tmp}/letters", 1, "label"),
        ("evaluate {run} --train {store} --test {tmp}/unlabelled", 1, "label"),
        ("evaluate {tmp}/empty --train {store} --test {store}", 1, "has no config.json"),
        ("report {tmp}/empty", 1, "has no config.json|no run"),
    ],
)
def test_a_mistake_gets_one_clear_sentence(
    limbeck: Run, trained: Path, tmp_path: Path, argv: str, code: int, sentence: str
) -> None:
    make_mistakes(tmp_path, trained)
    words = [w.format(tmp=tmp_path, store=trained.parent / "store", run=trained) for w in argv.split()]
    found, out, err = limbeck(*words)
    assert found == code, err
    assert re.search(sentence, " ".join((out + err).split())), err
    assert "Traceback" not in err
    for half in ("out", "run"):
        assert not (tmp_path / half).exists(), f"{half} was left behind"


def make_mistakes(folder: Path, trained: Path) -> None:
    """Everything that can be wrong with a path."""
    for name in ("empty", "texts", "letters/a", "letters/b", "unlabelled", "old", "changed"):
        (folder / name).mkdir(parents=True)
    (folder / "texts" / "note.txt").write_text("no image")
    for place in ("letters/a", "letters/b", "unlabelled"):
        for number in range(3):
            Image.fromarray(np.full((28, 28), number, np.uint8)).save(folder / place / f"{number}.png")
    store = trained.parent / "store"
    for file in store.iterdir():
        (folder / "old" / file.name).symlink_to(file)
    manifest = json.loads((store / "manifest.json").read_text()) | {"version": 999}
    (folder / "old" / "manifest.json").unlink()
    (folder / "old" / "manifest.json").write_text(json.dumps(manifest))
    config = json.loads((trained / "config.json").read_text())
    config["train"]["epochs"] = 3
    (folder / "changed" / "config.json").write_text(json.dumps(config))
    (folder / "changed" / "checkpoint.ckpt").symlink_to(trained / "checkpoint.ckpt")


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys, limbeck, limbeck.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    done = subprocess.run([sys.executable, "-m", "limbeck.cli", "--help"], capture_output=True, text=True, check=True)
    for verb in ("check", "store", "pretrain", "resume", "evaluate", "export", "report", "demo"):
        assert re.search(rf"^  {verb} ", done.stdout, re.M)
