"""The demo of series, end to end by the command line, with a set of its own."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.demo import series
from limbeck.demo.series import files_of
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.tiny_series import waves


@pytest.mark.slow
def test_it_ends_with_a_table_an_export_and_a_report(
    limbeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for name, seed in (("train", 0), ("test", 1)):
        found = waves(24, seed)
        np.savez(tmp_path / f"{name}.npz", series=found.values, labels=np.array(["slow", "fast"])[found.labels])
        names.append(str(tmp_path / f"{name}.npz"))
    monkeypatch.setattr(series, "files_of", lambda name: tuple(names))
    monkeypatch.setattr(series.demo_series, "__defaults__", (None, ("Waves",)))
    words = ["demo", "--series", "--out", tmp_path / "out", "--epochs", "1"]
    code, out, err = limbeck(*words)
    assert code == 0, err
    assert all(name in err for name in ("Waves", "untrained network", "fixed kernels"))
    assert (tmp_path / "out" / "Waves-onnx" / "model.onnx").is_file()
    assert str(tmp_path / "out" / "report.html") in out
    before = (tmp_path / "out" / "runs" / "Waves" / "result.json").read_bytes()
    assert limbeck(*words)[0] == 0
    assert (tmp_path / "out" / "runs" / "Waves" / "result.json").read_bytes() == before


def test_without_aeon_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "find_spec", lambda name: None)
    with raises("missing-package", "limbeck[series]"):
        files_of("GunPoint")
