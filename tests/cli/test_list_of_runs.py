"""`limbeck runs` lists what is in a folder, whatever state it is in; commands name the next one."""

import json
import shutil
from pathlib import Path

import pytest

from limbeck.core.locks import exclusive_lock
from limbeck.runs.listing import find_runs, read_status
from tests.helpers.commands import Run


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """Return a folder with five runs, one in each state, and other files."""
    folder = tmp_path / "runs"
    for name in ("finished", "stopped", "collapsed", "running", "inner/damaged"):
        shutil.copytree(trained, folder / name, ignore=shutil.ignore_patterns(".lock"))
    for name in ("stopped", "collapsed"):
        shutil.rmtree(folder / name / "encoder")
    (folder / "stopped" / "health.json").unlink()
    health = json.loads((trained / "health.json").read_text())
    (folder / "collapsed" / "health.json").write_text(json.dumps(health | {"healthy": False}))
    (folder / "inner" / "damaged" / "config.json").write_text("{")
    (folder / "finished" / "metrics.csv").write_text("step,epoch,loss,knn\n5,1.0,2.5,\n10,2.0,1.5,0.25\n11,2.2")
    (folder / "notes").mkdir()
    (folder / "notes" / "config.json").write_text('{"a": 1}')
    return folder


def test_every_state_is_told_apart(runs: Path) -> None:
    with exclusive_lock(runs / "running"):
        found = {path.name: read_status(path) for path in find_runs(runs)}
    assert {name: status.state for name, status in found.items()} == {name: name for name in found}
    assert len(found) == 5
    finished = found["finished"]
    assert (finished.step, finished.epoch, finished.epochs, finished.knn) == (11, 2.2, 2, 0.25)
    assert (finished.method, finished.network, finished.images) == ("sdssl over byol", "vit_tiny_patch16_224", 160)


def test_the_list_compares_runs(limbeck: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = limbeck("runs", runs)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "25.0" in lines["finished"]
    assert "inner/damaged" in lines
    assert "notes" not in lines
    assert "2.2/2" in lines["finished"]
    code, out, _ = limbeck("runs", runs, "--json")
    assert json.loads(out)["runs"][0]["name"] == "collapsed"
    assert limbeck("runs", runs / "notes")[0] == 0
    assert limbeck("runs", runs / "nowhere")[0] == 1


def test_a_command_names_the_next_one(limbeck: Run, trained: Path, tmp_path: Path) -> None:
    _, out, err = limbeck("resume", trained)
    assert f"limbeck evaluate {trained}" in err
    assert f"limbeck export {trained}" in err
    assert "next" not in out
    assert "next" not in limbeck("resume", trained, "--json")[2]
    assert "next" not in limbeck("resume", trained, "--quiet")[2]


def test_epochs_are_rounded_alike(limbeck: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    config = json.loads((runs / "finished" / "config.json").read_text())
    config["training"]["epochs"] = 1200.1429
    (runs / "finished" / "config.json").write_text(json.dumps(config))
    (runs / "finished" / "metrics.csv").write_text("step,epoch,loss,knn\n5,1100.04,2.5,\n")
    assert "1100/1200.1" in limbeck("runs", runs)[1]
