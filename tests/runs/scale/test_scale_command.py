"""`limbeck plan --images`: measured on a source or on made photographs, or given; as tables and as JSON."""

import json
from pathlib import Path

import pytest

from limbeck.core.config import to_json
from limbeck.runs.scale import measure, sample
from limbeck.runs.scale.arithmetic import Workload, stages
from limbeck.runs.scale.constants import Constants, names_of
from tests.helpers.commands import TINY, Run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PASS_SECONDS", 0.0)
    monkeypatch.setattr(measure, "SEARCHED", 9000)
    monkeypatch.setattr(measure, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(sample, "IMAGES", 8)
    monkeypatch.setattr("limbeck.runs.measured_kernels.WORTH", float("inf"))


def test_constants_are_measured_on_the_source(limbeck: Run, photos: Path) -> None:
    words = ("plan", photos / "train", *TINY, "--images", "1e6", "--machines", "3", "--json")
    code, out, err = limbeck(*words)
    assert code == 0, err
    found = json.loads(out)
    known = {name: value["value"] for name, value in found["constants"].items()}
    assert {value["origin"] for value in found["constants"].values()} == {"measured"}
    wanted = {*names_of("machine"), *names_of("image"), *names_of("device")} - measure.OPTIONAL
    assert {*known} == wanted
    workload = Workload(images=1e6, machines=3)
    again = stages(Constants(**known), workload, found["epochs"])
    assert [stage["seconds"] for stage in found["stages"]] == [stage.seconds for stage in again]
    sizes = [path.stat().st_size for path in (photos / "train").rglob("*.*")]
    assert min(sizes) <= known["source_bytes"] <= max(sizes)


def test_without_a_source_photographs_are_made(limbeck: Run, tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps({name: 1000.0 for name in names_of("device") if "teacher" not in name}))
    words = ("--images", 1e8, "--machines", 8, "--gpus", 8, "--constants", file)
    code, out, _ = limbeck("plan", *words, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["workload"] == to_json(Workload(images=1e8, machines=8, gpus=8))
    origins = {name: value["origin"] for name, value in found["constants"].items()}
    assert (origins["dim"], origins["build_core_seconds"]) == ("given", "measured")
    assert [stage["name"].partition(",")[0] for stage in found["stages"]] == [
        "store",
        "graph",
        "training",
        "evaluation",
    ]
    code, out, _ = limbeck("plan", *words)
    assert code == 0
    assert "build_core_seconds" in out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--gpus", 8), "flag-without-use"),
        (("--images", 1e6, "--gpus", 8), "missing-constants"),
        (("--images", 1e6, "--quick"), "flag-without-use"),
        (("--images", 0), "out-of-range"),
    ],
)
def test_mistakes(limbeck: Run, photos: Path, words: tuple[object, ...], code: str) -> None:
    status, out, _ = limbeck("plan", photos / "train", *TINY, *words, "--json")
    assert status == 1
    assert json.loads(out)["error"]["code"] == code
