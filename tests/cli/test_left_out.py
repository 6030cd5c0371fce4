"""What is left out by name: recorded in the run, and left out again by its evaluation and by runs from its config."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import TINY, Run


@pytest.fixture
def with_masks(photos: Path, tmp_path: Path) -> Path:
    """Return a copy of the photographs in which every second one has a mask."""
    shutil.copytree(photos, tmp_path / "photos")
    for path in sorted((tmp_path / "photos").rglob("*[02468].png")):
        Image.new("L", (8, 8), 255).save(path.with_name(f"{path.stem}_mask.png"))
    return tmp_path / "photos"


def test_a_run_leaves_out_and_its_evaluation_does_as_well(
    limbeck: Run, with_masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    code, _, err = limbeck("pretrain", with_masks / "train", "--out", run, *TINY, "--exclude", "*_mask.png")
    assert code == 0, err
    config = json.loads((run / "config.json").read_text())
    assert (config["exclude"], config["only"]) == (["*_mask.png"], [])
    quick = ["--linear", "none", "--no-latency", "--no-references", "--json"]
    code, out, err = limbeck("evaluate", run, "--train", with_masks / "train", "--test", with_masks / "test", *quick)
    assert code == 0, err
    found = json.loads(out)
    assert (found["train"]["images"], found["test"]["images"]) == (160, 80)
    code, out, err = limbeck("plan", with_masks / "test", "--config", run / "config.json", "--print-config")
    assert code == 0, err
    assert json.loads(out)["exclude"] == ["*_mask.png"]


def test_a_part_of_the_images_is_recorded_and_taken_again(limbeck: Run, photos: Path, tmp_path: Path) -> None:
    part = ["--max-images", "12", "--print-config"]
    code, out, err = limbeck("plan", photos / "train", *TINY, *part)
    assert code == 0, err
    assert json.loads(out)["max_images"] == 12
    (tmp_path / "config.json").write_text(out)
    code, out, err = limbeck("plan", photos / "train", "--config", tmp_path / "config.json", "--print-config")
    assert (code, json.loads(out)["max_images"]) == (0, 12), err


def test_a_plan_with_a_teacher_is_that_of_a_distillation(limbeck: Run, trained: Path) -> None:
    student = ["--student", "resnet10t", "--student.image-size", "16", "--batch-size", "32", "--epochs", "1"]
    code, out, err = limbeck("plan", trained.parent / "store", "--teacher", trained, *student)
    assert code == 0, err
    assert "steps" in out
    assert [part for part in ("simreg", "views", "forward", "backward", "update") if part not in err] == []
    assert f"limbeck distill {trained.parent / 'store'} --teacher {trained}" in err
