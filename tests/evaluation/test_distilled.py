"""Evaluate a distilled run from the command line: with its teacher, or without it where it is gone."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.commands import Run

CHANNELS = '{"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}'


@pytest.fixture
def distilled(limbeck: Run, trained: Path, photos: Path, tmp_path: Path) -> Path:
    """Return a small ResNet that has seen a few batches of `trained`."""
    folder = tmp_path / "distilled"
    small = ("--student", "resnet18", "--student.args", CHANNELS, "--epochs", "1", "--batch-size", "32")
    code, _, err = limbeck("distill", photos / "train", "--out", folder, "--teacher", trained, *small)
    assert code == 0, err
    return folder


def test_a_distilled_run_is_compared_with_its_teacher_or_evaluated_without_it(
    limbeck: Run, distilled: Path, trained: Path, photos: Path
) -> None:
    splits = ("--train", photos / "train", "--test", photos / "test", "--alignment-images", "20", "--no-latency")
    code, out, _ = limbeck("evaluate", distilled, *splits, "--beside", str(trained), "--no-references")
    assert code == 0
    for word in ("layer", "untrained", "network", "agreem."):
        assert word in out
    preserved = rf"preserves [\d.]+ % .*\(untrained [\d.]+ %, {re.escape(str(trained))} 100 %, chance"
    assert re.search(preserved, out)
    found = json.loads((distilled / "result.json").read_text())
    assert [model["name"] for model in found["references"]] == [str(trained)]
    assert found["references"][0] == found["comparison"]["students"][2]
    last = found["layers"][-1]["values"]
    student, teacher = found["comparison"]["students"][0], found["comparison"]["teacher"]
    assert [student["values"][key] for key in ("knn", "gflops")] == [last[key] for key in ("knn", "gflops")]
    assert teacher["values"]["width"] == 32
    config = json.loads((distilled / "config.json").read_text())
    config["teacher"]["name"] = str(distilled / "gone")
    (distilled / "config.json").write_text(json.dumps(config))
    code, out, err = limbeck("evaluate", distilled, *splits)
    assert code == 0
    assert "not comparing with the teacher:" in err
    assert "student" not in out, "the table of the comparison"
    assert json.loads((distilled / "result.json").read_text())["comparison"] is None
