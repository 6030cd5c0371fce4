"""Cached features: which teacher and store they belong to, how far a pass has come, and that they equal live ones."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.augment.views import View
from limbeck.data.loader import Loader
from limbeck.data.sampling import DrawSchedule, SamplingPlan, ViewSpec, view_specs
from limbeck.data.store.store import Store
from limbeck.teachers import cache as module
from limbeck.teachers.cache import FeatureCache
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, TeacherFeatures, TeacherNetwork
from limbeck.teachers.outputs import CachedTeacher, LiveTeacher, cache_views, check_cache
from tests.helpers.errors import raises

CPU = torch.device("cpu")
SIZE = 12
VIEW = View(size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
TEACHER_VIEW = ViewSpec(augmentation=VIEW, network="teacher", crop_of=0)


class Mixture(torch.nn.Module):
    """A teacher that mixes the colors of four quarters and counts the images of its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(12, 6, generator=torch.Generator().manual_seed(0)))
        self.count = 0

    def forward(self, images: Tensor, feature_map: bool) -> TeacherFeatures:
        self.count += len(images)
        places = F.adaptive_avg_pool2d(images, 2)
        return TeacherFeatures(places.flatten(1) @ self.weight, places if feature_map else None)


def make_teacher(digest: str = "first", network: Mixture | None = None) -> LoadedTeacher:
    frozen = TeacherNetwork(network or Mixture(), precision="fp32", batch_statistics=False, convolutional=False)
    return LoadedTeacher(
        cfg=TeacherConfig(name="custom"),
        network=frozen,
        dim=6,
        map_dim=3,
        image_size=SIZE,
        mean=VIEW.mean,
        std=VIEW.std,
        interpolation="bilinear",
        digest=digest,
        license="",
    )


def noise(count: int = 20, seed: int = 0) -> Store:
    return Store.from_arrays(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))


def sample(teacher: LoadedTeacher) -> Tensor:
    return F.normalize(torch.randn(8, teacher.dim, generator=torch.Generator().manual_seed(0)), dim=1)


def test_a_pass_has_the_features_of_the_loaders_views_and_is_made_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    network, store = Mixture(), noise()
    teacher = make_teacher(network=network)
    first = FeatureCache(tmp_path, teacher, store, CPU).view_features(VIEW, 0, 0, 1)
    loader = Loader(store, (*view_specs([View(size=SIZE)]), TEACHER_VIEW), 20, seed=0, device=CPU)
    batch = next(loader.batches(1, 2))
    expected = F.normalize(teacher.network(batch.views[1]).vector, dim=1)
    torch.testing.assert_close(torch.from_numpy(first[batch.indices.numpy()]).float(), expected, rtol=0, atol=1e-3)
    assert first.dtype == np.float16
    (message,) = caplog.messages
    assert [value for value in ("20 images", "0.", "240 bytes", str(tmp_path)) if value not in message] == []
    before = network.count
    assert np.array_equal(FeatureCache(tmp_path, teacher, store, CPU).view_features(VIEW, 0, 0, 1), first)
    assert network.count == before
    other = FeatureCache(tmp_path, teacher, store, CPU).view_features(VIEW, 0, 0, 2)
    assert not np.array_equal(other, first)


def test_an_interrupted_pass_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FeatureCache(tmp_path / "whole", make_teacher(), noise(), CPU).features()
    monkeypatch.setattr(module, "BLOCK", 6)
    stopping = Mixture()
    forward: Callable[..., TeacherFeatures] = stopping.forward

    def interrupted(images: Tensor, feature_map: bool) -> TeacherFeatures:
        if stopping.count >= 8 + 20 + 12:  # the images that are timed, and two blocks
            raise KeyboardInterrupt
        return forward(images, feature_map)

    monkeypatch.setattr(stopping, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path / "ended", make_teacher(network=stopping), noise(), CPU).features()
    second = Mixture()
    found = FeatureCache(tmp_path / "ended", make_teacher(network=second), noise(), CPU).features()
    assert np.array_equal(found, whole)
    assert second.count == 8 + 20 + 8  # eight rows were left


@pytest.mark.parametrize(
    ("teacher", "store", "what"),
    [
        (make_teacher("second"), noise(), "teacher"),
        (make_teacher(), noise(seed=1), "store"),
        (make_teacher(), noise(19), "store"),
    ],
)
def test_a_cache_of_another_teacher_or_store_is_refused(
    tmp_path: Path, teacher: LoadedTeacher, store: Store, what: str
) -> None:
    FeatureCache(tmp_path, make_teacher(), noise(), CPU)
    with raises("other-cache", what):
        FeatureCache(tmp_path, teacher, store, CPU)


def test_a_center_is_subtracted_once(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, make_teacher(), noise(), CPU)
    center = cache.features().astype(np.float32).mean(0)
    centered, name = cache.centered_features(center)
    np.testing.assert_allclose(centered, cache.features() - center, atol=1e-3)
    assert cache.centered_features(center)[1] == name
    assert cache.centered_features(center + 1)[1] != name
    assert len(list(tmp_path.glob("centered-*.npy"))) == 2


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, make_teacher(), noise(), CPU)
    cache.features()
    (vectors,) = tmp_path.glob("*.npy")
    whole = vectors.read_bytes()
    vectors.write_bytes(b"junk" + whole[4:])
    with raises("damaged-array", vectors):
        cache.features()
    np.save(vectors, np.zeros((40, 3), np.float16))
    with raises("damaged-array", "(40, 3)", "(20, 6)"):
        cache.features()
    vectors.write_bytes(b"half")  # rows that are lost are computed again
    cache.features()
    assert vectors.read_bytes() == whole
    (tmp_path / "cache.json").write_text("{")
    with raises("not-json", tmp_path / "cache.json"):
        FeatureCache(tmp_path, make_teacher(), noise(), CPU)


def test_a_full_disk_is_reported_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.teachers.cache.shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    with raises("disk-full", "0 bytes", "240 bytes", "--teacher.cached-views 0"):
        FeatureCache(tmp_path, make_teacher(), noise(), CPU).features()
    assert list(tmp_path.glob("*.npy")) == []


def test_a_pass_that_does_not_end_in_time_is_refused_before_it_begins(tmp_path: Path) -> None:
    teacher, now = make_teacher(), time.monotonic()
    with raises("time-too-short", "20 images", "--time", "limbeck plan"):
        FeatureCache(tmp_path, teacher, noise(), CPU, ends=now).features()
    assert list(tmp_path.glob("*.npy")) == []
    whole = FeatureCache(tmp_path, teacher, noise(), CPU, ends=now + 600).features()
    assert np.array_equal(whole, FeatureCache(tmp_path, teacher, noise(), CPU, ends=now).features())  # as it is there


@pytest.mark.parametrize("center", [False, True])
def test_cached_features_are_live_ones_for_images_and_partners(tmp_path: Path, center: bool) -> None:
    teacher, store = make_teacher(), noise()
    bags = ((np.arange(20) + 3) % 20)[:, None].astype(np.int32)
    teacher_view = replace(TEACHER_VIEW, crop_of=1)
    views = (*view_specs([View(size=8)] * 2), teacher_view, replace(teacher_view, image="partner"))
    loader = Loader(store, views, 10, seed=0, device=CPU, sampling=SamplingPlan(bags=bags))
    passes = cache_views(FeatureCache(tmp_path, teacher, store, CPU), DrawSchedule(views, 0, 2))
    live = LiveTeacher(teacher, views, sample(teacher), center=center)
    cached = CachedTeacher(teacher, views, sample(teacher), passes, center=center)
    for batch in loader.batches(0, 4):  # two epochs, two draws
        now, then = live(batch), cached(batch)
        assert len(now.vectors) == len(then.vectors) == 2
        for a, b in zip(now.vectors, then.vectors, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-3)
        check_cache(live, cached, batch)
    assert torch.equal(live.sample, cached.sample)
    assert (live.sample.mean(0).norm() < 1e-6) == center


def test_features_that_are_not_the_teachers_are_refused(tmp_path: Path) -> None:
    teacher, store = make_teacher(), noise()
    views = (*view_specs([View(size=8)]), TEACHER_VIEW)
    passes = cache_views(FeatureCache(tmp_path, teacher, store, CPU), DrawSchedule(views, 0, 1))
    live = LiveTeacher(teacher, views, sample(teacher), center=False)
    rolled = [{0: np.roll(passes[0][0], 1, axis=0)}]
    wrong = CachedTeacher(teacher, views, sample(teacher), rolled, center=False)
    batch = next(Loader(store, views, 20, seed=0, device=CPU).batches(0, 1))
    with raises("stale-cache", "0.999"):
        check_cache(live, wrong, batch)


def test_a_live_teacher_gives_the_feature_map_of_the_students_first_view() -> None:
    teacher, store = make_teacher(), noise()
    views = (*view_specs([View(size=8)]), replace(TEACHER_VIEW, crop_of=1), TEACHER_VIEW)
    batch = next(Loader(store, views, 20, seed=0, device=CPU).batches(0, 1))
    output = LiveTeacher(teacher, views, sample(teacher), center=False, feature_map=True)(batch)
    assert output.feature_map is not None
    torch.testing.assert_close(output.feature_map, F.adaptive_avg_pool2d(batch.views[2], 2))
    assert LiveTeacher(teacher, views, sample(teacher), center=False)(batch).feature_map is None


def test_the_manifest_records_the_draw(tmp_path: Path) -> None:
    FeatureCache(tmp_path, make_teacher(), noise(), CPU).view_features(VIEW, 0, 5, 1)
    (file,) = (path for path in tmp_path.glob("*.json") if path.name != "cache.json")
    manifest = json.loads(file.read_text())
    settings = manifest["settings"]
    assert manifest["rows"] == 20
    assert (settings["draw_index"], settings["seed"], settings["epoch"]) == (0, 5, 1)
    assert settings["view"]["scale"] == list(VIEW.scale)
