"""Several teachers side by side: what is appended to what, and how much each counts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.loader import Loader
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.references import PROJECTED
from limbeck.methods.config.bingo import BINGOConfig
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.runs.api import evaluate_run
from limbeck.runs.config import read_config
from limbeck.runs.resume import resume
from limbeck.teachers.cache import FeatureCache
from limbeck.teachers.config import PATCH_FILTERS, START_TEACHER, TeacherConfig
from limbeck.teachers.load import load_teacher
from limbeck.teachers.setup import build_distillation_inputs, prepare_teacher
from limbeck.teachers.side_by_side import SideBySide, scales_of, side_by_side
from tests.helpers.commands import Run
from tests.helpers.distill import CUSTOM, NARROW, TRAINING, Quarters, distill_digits, images, small
from tests.helpers.errors import raises

BOTH = replace(CUSTOM, further=(PATCH_FILTERS,))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cone_and_sphere() -> list[torch.Tensor]:
    """Return vectors of two teachers: in a narrow cone, and spread."""
    draws = torch.Generator().manual_seed(0)
    narrow = torch.randn(40, 5, generator=draws, dtype=torch.float64) + torch.tensor([6.0, 0, 0, 0, 0]).double()
    return [narrow, 9 * torch.randn(40, 3, generator=draws, dtype=torch.float64)]


def test_every_teacher_deviates_from_its_mean_by_one() -> None:
    found = cone_and_sphere()
    scales = scales_of(found)
    expected = []
    for vectors in found:
        units = [[float(x) / sum(float(y) ** 2 for y in row) ** 0.5 for x in row] for row in vectors]
        mean = [sum(column) / len(units) for column in zip(*units, strict=True)]
        square = sum(sum((x - m) ** 2 for x, m in zip(row, mean, strict=True)) for row in units) / len(units)
        expected.append(square**-0.5)
    assert scales == pytest.approx(expected, rel=1e-12)
    assert scales[0] > 2 * scales[1]
    rows = side_by_side(found, scales)
    for vectors, scale, part in zip(found, scales, rows.split([5, 3], dim=1), strict=True):
        torch.testing.assert_close(part, scale * vectors / vectors.norm(dim=1, keepdim=True))
        torch.testing.assert_close((part - part.mean(0)).square().sum(1).mean(), torch.ones(()).double())


def test_vectors_that_are_all_the_same_have_a_finite_scale() -> None:
    assert scales_of([torch.ones(4, 3)]) == (1000.0,)


def test_rows_are_read_from_all_arrays() -> None:
    parts = [np.arange(12, dtype=np.float16).reshape(4, 3), np.arange(8, dtype=np.float16).reshape(4, 2)]
    joined = SideBySide(parts, (0.5, 2.0))
    found = joined[np.array([3, 1])]
    np.testing.assert_array_equal(found, [[4.5, 5, 5.5, 12, 14], [1.5, 2, 2.5, 4, 6]])
    assert joined.nbytes == joined[:].nbytes


def test_targets_are_the_answers_of_each_that_other_runs_keep(tmp_path: Path) -> None:
    store = Store.from_arrays(*images())
    teacher = load_teacher(BOTH, teacher_module=Quarters(), store=store)
    context = prepare_teacher(teacher, store, TRAINING).value
    assert (context.cfg.targets, context.cfg.center) == ("image", True)
    assert context.cfg.scales == context.teacher.scales
    inputs = build_distillation_inputs(context, SimRegConfig(), SimRegConfig().make_views(16), tmp_path)
    batch = next(Loader(store, inputs.views, 90, seed=0, device=CPU, sampling=inputs.sampling).batches(0, 1))
    assert len(batch.views) == 1
    filters = TeacherConfig(name=PATCH_FILTERS, precision="fp32")
    alone = [load_teacher(CUSTOM, teacher_module=Quarters()), load_teacher(filters, store=store)]
    kept = [FeatureCache(tmp_path / "teacher" / one.digest[:12], one, store, CPU).features() for one in alone]
    vectors = [torch.from_numpy(array[batch.indices.numpy()].astype(np.float32)) for array in kept]
    whole = torch.nn.functional.normalize(side_by_side(vectors, context.cfg.scales), dim=1)
    expected = whole - context.features.mean(0)
    torch.testing.assert_close(inputs.teacher(batch).vectors[0], expected, rtol=0, atol=2e-3)
    assert inputs.teacher.dim == expected.shape[1] == sum(one.dim for one in alone)


def test_a_run_records_its_teachers_and_refuses_others(tmp_path: Path) -> None:
    run = distill_digits(tmp_path / "run", BOTH)
    teacher = read_config(run).teacher
    assert teacher is not None
    assert (teacher.names, len(teacher.scales), len(teacher.further_digests)) == (("custom", PATCH_FILTERS), 2, 1)
    resume(run, teacher_module=Quarters())
    other = replace(teacher, further_digests=("0" * 64,))
    with raises("teacher-changed", PATCH_FILTERS):
        load_teacher(other, teacher_module=Quarters(), store=Store.from_arrays(*images()))


def test_the_command_line_takes_several(limbeck: Run, tmp_path: Path) -> None:
    pixels, labels = images()
    np.savez(tmp_path / "digits.npz", images=pixels, labels=labels)
    options = ("--student", "resnet18", "--student.args", json.dumps(NARROW), "--epochs", "1", "--batch-size", "20")
    first, both = tmp_path / "first", tmp_path / "both"
    source = ("distill", tmp_path / "digits.npz", *options, "--teacher")
    assert limbeck(*source, PATCH_FILTERS, "--out", first)[0] == 0
    code, _, err = limbeck(*source, first, "--teacher.further", PATCH_FILTERS, "--out", both)
    assert code == 0, err
    assert f"{PATCH_FILTERS} x " in err
    how = EvaluateConfig(linear="none", latency=False, references=False, alignment_images=20)
    data = pixels, np.arange(len(pixels)) % 2
    found = evaluate_run(both, data, data, how)
    assert found.comparison is not None
    assert PROJECTED not in [scores.name for scores in found.references], "two teachers are no line of filters"
    alone = evaluate_run(first, data, data, how).comparison
    assert alone is not None
    costs = [comparison.teacher.values["gflops"] or 0 for comparison in (alone, found.comparison)]
    assert costs[1] > costs[0] > 0


@pytest.mark.parametrize(
    "settings", [{"targets": "view"}, {"cached_views": 2}, {"batch_statistics": True}, {"name": START_TEACHER}]
)
def test_what_several_teachers_exclude(settings: dict[str, Any]) -> None:
    with raises("teacher-further", PATCH_FILTERS):
        replace(BOTH, **settings)


def test_bags_are_found_by_one_teacher(tmp_path: Path) -> None:
    with raises("teacher-further", PATCH_FILTERS):
        distill_digits(tmp_path / "run", BOTH, method=small(BINGOConfig().name))
