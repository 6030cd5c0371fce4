"""The real command line on real images: digits become a store, a run, a table, a cut, a page."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import timm
import torch

from limbeck.methods import method_names
from tests.helpers.commands import TINY, Run


def test_a_store_counts_every_file(limbeck: Run, photos: Path, tmp_path: Path) -> None:
    code, out, err = limbeck("store", photos / "train", tmp_path / "store")
    assert code == 0
    assert out.strip() == str(tmp_path / "store")
    assert re.search(r"160 images stored at 28 x 28 .* 1 skipped .empty: 1.", err)
    assert "broken.png" in (tmp_path / "store" / "skipped.csv").read_text()


def test_a_run_explains_itself(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["method"]["name"] == "sdssl"
    assert config["backbone"]["image_size"] == 28
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows][-1] == 10
    assert all(float(row["loss"]) > 0 for row in rows if row["loss"])
    assert 0 <= float(rows[-1]["knn"]) <= 1
    model = timm.create_model(f"local-dir:{trained / 'encoder'}", pretrained=True)
    assert model(torch.zeros(1, 3, 28, 28)).shape == (1, 32)


def test_evaluate_judges_every_layer(limbeck: Run, trained: Path, photos: Path) -> None:
    splits = ("--train", photos / "train", "--test", photos / "test")
    code, out, _ = limbeck("evaluate", trained, *splits, "--alignment-images", "20")
    assert code == 0
    for word in ("layer", "k-NN", "linear", "init"):
        assert word in out
    layers = json.loads((trained / "result.json").read_text())["layers"]
    assert [layer["depth"] for layer in layers] == [1, 2, 3]
    rows = [layer["values"] for layer in layers]
    assert all(0 <= row["knn"] <= 1 and 0 <= row["untrained_knn"] <= 1 and row["linear"] > 0.1 for row in rows)
    assert [row["parameters"] for row in rows] == sorted(row["parameters"] for row in rows)


def test_evaluate_says_what_it_left_out_and_may_be_allowed_more(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bad = tmp_path / "bad"
    shutil.copytree(photos / "test", bad)
    for number in range(20):
        (bad / "3" / f"broken{number}.png").write_bytes(b"")
    command = ["evaluate", trained, "--train", photos / "train", "--test", bad, "--linear", "none", "--no-latency"]
    code, _, err = limbeck(*command, "--alignment-images", "20")
    assert code == 1
    assert "20 of the 100 images" in err
    for _ in range(2):  # the second time from the cache
        code, _, err = limbeck(*command, "--alignment-images", "20", "--allow-bad", "0.2")
        assert code == 0
        assert "20 skipped" in err
        assert "1 skipped" in err
    assert limbeck(*command)[0] == 1


@pytest.mark.parametrize("kind", ["timm", "onnx"])
def test_export_proves_itself(limbeck: Run, trained: Path, tmp_path: Path, kind: str) -> None:
    code, out, err = limbeck("export", trained, tmp_path / "out", "--depth", "2", "--format", kind)
    assert code == 0
    assert out.strip() == str(tmp_path / "out")
    assert re.search(r"depth 2, 32 features, .*B; largest difference from PyTorch \d.*; .* ms per image", err)


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
    code, out, _ = limbeck("pretrain", "--help-all", "--method", "sdssl", "--method.host", "simclr")
    assert code == 0
    assert "--method.host.temperature" in out
    _, out, _ = limbeck("pretrain", "--help", "--method=byol")
    assert "--method.ema-momentum" in out
    assert "--method.host." not in out


def test_plan_takes_a_few_steps_and_leaves_no_run(
    limbeck: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = limbeck("plan", trained.parent / "store", *TINY, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["images_per_second"] > 0
    assert found["steps"] == 10
    assert 32 <= found["largest_batch"] <= 160
    assert min(found["memory"], found["store_bytes"], found["run_bytes"]) > 10_000
    assert not list(tmp_path.iterdir())


def test_resume_may_go_on_with_a_collapsed_run(monkeypatch: pytest.MonkeyPatch, limbeck: Run) -> None:
    seen: list[bool] = []

    def resume(run: str, *, stop_on_collapse: bool, **place: object) -> str:
        seen.append(stop_on_collapse)
        return run

    monkeypatch.setattr("limbeck.runs.resume.resume", resume)
    limbeck("resume", "run")
    limbeck("resume", "run", "--no-stop-on-collapse")
    assert seen == [True, False]
