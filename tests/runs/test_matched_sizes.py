"""`--teacher.image-size auto`: which size it is, and that a run records it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.runs.config import read_config
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.load import load_teacher
from limbeck.teachers.matched_grid import matched_size
from tests.helpers.commands import Run
from tests.helpers.distill import CUSTOM, Quarters, images
from tests.helpers.errors import raises
from tests.helpers.folders import MEAN, STD, save_timm, timm_vit


class Cells(torch.nn.Module):
    """A teacher with a place for every `cell` pixels."""

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.pool = torch.nn.AvgPool2d(cell)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.pool(pixels)
        return found


def cells(cell: int, size: int = 224) -> LoadedTeacher:
    return load_teacher(replace(CUSTOM, image_size=size), teacher_module=Cells(cell))


@pytest.mark.parametrize(
    ("cell", "places", "student", "size"),
    [(14, 16, 256, 224), (14, 14, 224, 196), (14, 7, 224, 196), (14, 3, 96, 84), (32, 7, 224, 224), (16, 4, 32, 64)],
)
def test_the_smallest_size_that_fits_the_places_and_shows_enough(
    cell: int, places: int, student: int, size: int
) -> None:
    found = matched_size(cells(cell), places, student)
    assert found.value == size
    assert size // cell % places == 0
    (reason,) = found.reasons
    assert all(told in reason for told in (f"{size} x {size}", f"{size // cell} x {size // cell}", "224"))


def test_a_teacher_without_maps_has_no_such_size() -> None:
    class Flat(Quarters):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(pixels)[0]

    with raises("no-feature-maps", "custom", "--teacher.image-size"):
        matched_size(load_teacher(CUSTOM, teacher_module=Flat()), 4, 16)


def test_a_run_says_and_records_the_size(limbeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    np.savez(tmp_path / "digits.npz", images=images()[0])
    folder = save_timm(timm_vit(), tmp_path / "vit", mean=MEAN, std=STD, input_size=(3, 32, 32))
    narrow = ("--student", "resnet18", "--student.args", '{"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8]}')
    auto = ("--teacher", folder, "--teacher.image-size", "auto", "--method.dense-weight", "1")
    run = ("distill", tmp_path / "digits.npz", *narrow, *auto, "--epochs", "1", "--batch-size", "20")
    code, _, err = limbeck(*run, "--out", tmp_path / "run")
    assert code == 0, err
    assert "16 x 16" in err
    teacher = read_config(tmp_path / "run").teacher
    assert teacher is not None
    assert teacher.image_size == 16
    assert limbeck("resume", tmp_path / "run")[0] == 0
    code, _, err = limbeck("distill", tmp_path / "digits.npz", *narrow, *auto[2:], "--teacher", "patch-filters")
    assert code != 0
    assert "--teacher.image-size" in err
    with raises("out-of-range"):
        TeacherConfig(name="custom", image_size=0)
