"""What is printed at the end of a command: what one may type next, and errors that are nobody's mistake."""

from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.cli.output import as_failure
from limbeck.core.config import from_json
from limbeck.teachers.config import TeacherConfig
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint
from tests.helpers.commands import Run
from tests.helpers.errors import raises


def next_commands(err: str) -> list[str]:
    lines = err.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("next: "))
    return [line[6:] for line in lines[first:]]


def test_commands_name_what_is_there_and_a_depth_that_the_network_has(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(trained)
    code, _, err = limbeck("export", "run", "out dir")
    assert code == 0
    assert next_commands(err) == ["cat 'out dir/README.md'  # the lines that use it"]
    code, _, err = limbeck("report", "run", "--out", "page.html")
    assert code == 0
    browse, export = next_commands(err)
    assert browse.endswith(" page.html")
    assert export.startswith(f"limbeck export run models/{trained.name}")
    code, _, err = limbeck("runs", ".")
    assert code == 0
    code, _, err = limbeck("check", photos / "test")
    assert next_commands(err) == [f"limbeck plan {photos / 'test'}", f"limbeck pretrain {photos / 'test'}"]
    code, _, err = limbeck("check", trained.parent / "store")
    assert f"limbeck pretrain {trained.parent / 'store'}" in next_commands(err)


def test_names_with_line_breaks_and_escape_sequences_stay_in_one_line(limbeck: Run) -> None:
    code, _, err = limbeck("check", "no\n\x1b[31msuch\x07\u202eplace")
    assert code == 1
    assert err.count("\n") == 1
    assert "no\\x0a\\x1b[31msuch\\x07\\u202eplace" in err


def test_too_little_memory_is_a_sentence() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(10**17)
    assert as_failure(caught.value, []).code == "out-of-memory"
    with pytest.raises(MemoryError) as refused:
        np.ones(10**17)
    assert as_failure(refused.value, []).code == "out-of-memory"


def test_configurations_hold_no_null_characters() -> None:
    with raises("wrong-value", "name"):
        from_json(TeacherConfig, {"name": "a\0b"})


def test_a_run_that_goes_on_elsewhere_says_what_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    here, there = {"precision": "32-true", "device": "cpu"}, {"precision": "bf16-mixed", "device": "cpu"}
    save_checkpoint(tmp_path / "c", 7, model, optimizer, {}, environment=here)
    assert load_checkpoint(tmp_path / "c", model, optimizer, {}, environment=here) == 7
    assert caplog.text == ""
    assert load_checkpoint(tmp_path / "c", model, optimizer, {}, environment=there) == 7
    assert "32-true" in caplog.text
    assert "bf16-mixed" in caplog.text
    assert "cpu" not in caplog.text
