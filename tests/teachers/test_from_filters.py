"""Patch filters as a teacher: fitted to the images of the run, one vector per image whatever its view."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.data.loader import Loader
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.references import PROJECTED
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.runs.api import evaluate_run
from limbeck.runs.config import read_config
from limbeck.teachers.cache import FeatureCache
from limbeck.teachers.config import PATCH_FILTERS, TeacherConfig
from limbeck.teachers.load import load_teacher
from limbeck.teachers.setup import build_distillation_inputs, prepare_teacher
from tests.helpers.distill import TRAINING, distill_digits, images
from tests.helpers.errors import raises


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_targets_are_those_of_the_whole_image_and_crops_differ_between_epochs(tmp_path: Path) -> None:
    store = Store.from_arrays(*images())
    teacher = load_teacher(TeacherConfig(name=PATCH_FILTERS, precision="fp32"), store=store)
    context = prepare_teacher(teacher, store, TRAINING).value
    method = SimRegConfig()
    inputs = build_distillation_inputs(context, method, method.make_views(16), tmp_path)
    loader = Loader(store, inputs.views, 90, seed=0, device=context.device, sampling=inputs.sampling)
    first, second = loader.batches(0, 2)
    assert len(first.views) == 1
    order = [batch.indices.argsort() for batch in (first, second)]
    found = [inputs.teacher(batch).vectors[0][rows] for batch, rows in zip((first, second), order, strict=True)]
    assert (first.indices[order[0]] == second.indices[order[1]]).all()
    assert (found[0] == found[1]).all()
    assert not (first.views[0][order[0]] == second.views[0][order[1]]).all()
    whole = FeatureCache(tmp_path / "again", teacher, store, context.device).features()
    expected = whole[first.indices[order[0]].numpy()].astype(np.float32)
    if context.center:
        expected = expected - context.features.mean(0).numpy()
    np.testing.assert_allclose(found[0], expected, atol=2e-3)


def test_a_run_names_the_filters_and_has_targets_of_whole_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = distill_digits(tmp_path / "run", TeacherConfig(name=PATCH_FILTERS), teacher_module=None)
    teacher = read_config(run).teacher
    assert teacher is not None
    assert (teacher.name, teacher.targets) == (PATCH_FILTERS, "image")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert not [message for message in warnings if "student" in message], "filters are not a network to make smaller"
    how = EvaluateConfig(linear="none", latency=False, references=False, alignment_images=20)
    pixels, _ = images()
    data = pixels, np.arange(len(pixels)) % 2
    found = evaluate_run(run, data, data, how)
    assert found.comparison is not None
    line = next(scores for scores in found.references if scores.name == PROJECTED)
    assert line.values == found.comparison.teacher.values


def test_filters_need_the_images_of_a_run() -> None:
    with raises("no-images-to-fit", PATCH_FILTERS):
        load_teacher(TeacherConfig(name=PATCH_FILTERS))


def test_one_vector_per_image_excludes_what_depends_on_view_or_batch() -> None:
    with raises("teacher-targets", "cached-views"):
        TeacherConfig(name="any", targets="image", cached_views=2)
    with raises("teacher-targets", "batch-statistics"):
        TeacherConfig(name="any", targets="image", batch_statistics=True)
