"""A metric is one file: the example of docs/evaluation.md in a copy of the package, through the real commands."""

import json
import shutil
from pathlib import Path

from tests.helpers.package_copy import add_example, copy_package, run_command


def test_a_metric_file_fills_the_table_the_result_and_the_report(trained: Path, photos: Path, tmp_path: Path) -> None:
    package = copy_package(tmp_path / "copy")
    run = shutil.copytree(trained, tmp_path / "run")
    images: list[str | Path] = ["--train", photos / "train", "--test", photos / "test", "--alignment-images", "20"]
    add_example("evaluation.md", "limbeck/evaluation/metrics/mean_norm.py", package)
    table = run_command(package, "evaluate", run, *images, "--linear", "none", "--no-latency")
    assert "norm" in table
    layers = json.loads((run / "result.json").read_text())["layers"]
    for layer in layers:
        assert layer["values"]["mean_norm"] > 0
        assert layer["values"]["untrained_mean_norm"] > 0
        assert f"{layer['values']['mean_norm']:.2f}" in table
    run_command(package, "report", run, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<figcaption>norm" in page
    assert 'title="mean Euclidean norm of the test features">norm</th>' in page
    assert f"<td>{layers[0]['values']['mean_norm']:.2f}</td>" in page
