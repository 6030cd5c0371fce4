"""A new kind of data takes one file: every command that trains knows it, and the others refuse it in a sentence."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import graphs
from tests.helpers.package_copy import copy_package, run_command

WALL_TIME = ("images_per_second", "data_wait")


def logged(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in WALL_TIME} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_module_is_all_that_the_command_line_needs(tmp_path: Path) -> None:
    folder = copy_package(tmp_path)
    np.save(folder / "some.graphs.npy", np.random.default_rng(0).integers(0, 2, (64, 8, 8)))
    shutil.copy(graphs.__file__, folder / "limbeck" / "modalities" / "graphs.py")
    flags = ["--epochs", "2", "--batch-size", "16", "--method.hidden", "16", "--backbone.depth", "2"]
    run_command(
        folder, "pretrain", "some.graphs.npy", "--out", "run", "--method", "sdssl", "--method.host.hidden", "16", *flags
    )
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["backbone"] == {"name": "graph_conv", "nodes": 8, "depth": 2}
    assert (folder / "run" / "encoder" / "model.safetensors").exists()
    before = logged(folder / "run")
    (folder / "run" / "checkpoint.ckpt").unlink()
    run_command(folder, "resume", "run")
    assert logged(folder / "run") == before
    run_command(folder, "report", "run", "--out", "report.html")
    assert "graph_conv" in (folder / "report.html").read_text()
