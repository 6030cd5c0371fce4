"""The battery for a GPU runs on a CPU, at toy size; of items that differ in numbers alone, one."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from limbeck.data.samples import digits

ITEMS = (
    *("versions", "views-equal", "methods-equal", "resident", "resume", "nccl"),
    *("efficiency", "views", "profile", "distillation", "graph"),
)


@pytest.mark.slow
def test_the_items_run_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = digits()
    for name, rows in (("train", slice(0, None, 31)), ("test", slice(1, None, 100))):  # of every class
        np.savez(tmp_path / f"{name}.npz", images=pixels[rows], labels=labels[rows])
    out = tmp_path / "found.jsonl"
    places = ["--train", tmp_path / "train.npz", "--test", tmp_path / "test.npz", "--baseline", tmp_path / "work"]
    monkeypatch.setattr(
        sys, "argv", ["benchmarks.gpu", *map(str, places), "--out", str(out), "--toy", "--only", *ITEMS]
    )
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks.gpu", run_name="__main__")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line for line in lines if "error" in line] == []
    assert ended.value.code == 0
    assert tuple(line["item"] for line in lines if "took_s" in line) == ITEMS
