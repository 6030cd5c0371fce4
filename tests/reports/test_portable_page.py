"""A page travels: it names no folder of the machine that wrote it, and its commands can still be run."""

import dataclasses
import re
from pathlib import Path

import pytest

from limbeck.evaluation.results import ModelScores
from limbeck.models.config import StartConfig
from limbeck.reports.page import write_report
from limbeck.teachers.config import TeacherConfig
from tests.helpers.written_runs import METRICS, make_run, result, run_config, with_its_teacher


def test_the_page_names_no_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies below the current folder has its path from there, so that the commands on the page can be run."""
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(
        run_config(store=str(tmp_path / "stores" / "photos")),
        start=StartConfig(name="/home/ada/models/first"),
        teacher=TeacherConfig(name="/home/ada/models/big one"),
        companion="/home/ada/depth",
    )
    names = ("/home/ada/models/first", "start: /home/ada/models/first", "/home/ada/depth")
    models = [ModelScores(name=name, image_size=28, values={"knn": 0.2}) for name in names]
    judged = result(
        references=tuple(models[:2]),
        verdict="layer 1 of 1 has 50.0 ± 5.0 % k-NN accuracy, above start: /home/ada/models/first (20.0)",
        command=f"/usr/lib/limbeck evaluate {tmp_path}/runs/a --with /home/ada/models/first --test=/home/ada/test",
        comparison=dataclasses.replace(with_its_teacher(), students=(models[2],)),
    )
    runs = [make_run(tmp_path / "runs" / name, config=config, judged=judged, metrics=METRICS) for name in "ab"]
    twins = [make_run(tmp_path / name / "x", config=config, judged=judged) for name in "cd"]
    for number, some in enumerate((runs, twins, [runs[0], runs[0]], [*twins, *runs])):
        text = write_report(some, tmp_path / f"{number}.html").read_text()
        assert str(tmp_path) not in text
        assert "/home" not in text
        assert "/usr" not in text
    for part in ("distill stores/photos", "above start: first (20.0)", "evaluate runs/a --with first --test=test"):
        assert part in text, part
    assert re.findall(r"<h3>([^<]*)</h3>", text)[-4:] == ["c/x", "d/x", "runs/a", "runs/b"]
