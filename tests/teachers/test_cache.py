"""Kept answers: whose they are, how far they have come, and that they are what the teacher says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.core.errors import UserError
from limbeck.data.augment.views import View
from limbeck.data.loader import Loader
from limbeck.data.sampling import DrawSchedule, SamplingPlan, ViewSpec, view_specs
from limbeck.data.store.store import Store
from limbeck.teachers import cache as module
from limbeck.teachers.cache import Cache
from limbeck.teachers.frozen import LoadedTeacher, TeacherFeatures, TeacherNetwork
from limbeck.teachers.outputs import Kept, LiveTeacher, check_alike, keep
from tests.helpers.errors import raises

CPU = torch.device("cpu")
SIZE = 12
VIEW = View(size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
SEEN = ViewSpec(augmentation=VIEW, network="teacher", crop_of=0)


class Mixture(torch.nn.Module):
    """The colours of four quarters, mixed; counts the images that it has seen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(12, 6, generator=generator))
        self.asked = 0

    def forward(self, images: torch.Tensor, maps: bool) -> TeacherFeatures:
        self.asked += len(images)
        places = F.adaptive_avg_pool2d(images, 2)
        return TeacherFeatures(places.flatten(1) @ self.weight, places if maps else None)


def teacher(digest: str = "first") -> LoadedTeacher:
    network = TeacherNetwork(Mixture(), precision="fp32", batch_statistics=False, convolutional=False)
    sight = {"size": SIZE, "mean": VIEW.mean, "std": VIEW.std}
    about = {"interpolation": "bilinear", "digest": digest, "source": "mine", "license": ""}
    return LoadedTeacher(network=network, dim=6, map_dim=3, **sight, **about)  # type: ignore[arg-type]


def noise(count: int = 20, seed: int = 0) -> Store:
    return Store.from_arrays(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))


def quiet(sentence: str) -> None:
    """Nobody listens."""


def sample(frozen: LoadedTeacher) -> torch.Tensor:
    return F.normalize(torch.randn(8, frozen.dim, generator=torch.Generator().manual_seed(0)), dim=1)


def test_a_pass_is_what_the_teacher_says_and_is_made_once(tmp_path: Path) -> None:
    frozen, store, said = teacher(), noise(), []
    first = Cache(tmp_path, frozen, store, CPU, said.append).drawn(VIEW, 0, 0, 1)
    loader = Loader(store, (*view_specs([View(size=SIZE)]), SEEN), 20, seed=0, device=CPU)
    batch = next(loader.batches(1, 2))
    expected = F.normalize(frozen.network(batch.views[1]).vector, dim=1)
    torch.testing.assert_close(torch.from_numpy(first[batch.indices.numpy()]).float(), expected, rtol=0, atol=1e-3)
    assert first.dtype == np.float16
    assert len(said) == 1
    assert said[0].startswith("asking the teacher about 20 images once: about 0.")
    before = frozen.network.network.asked
    assert np.array_equal(Cache(tmp_path, frozen, store, CPU, said.append).drawn(VIEW, 0, 0, 1), first)
    assert frozen.network.network.asked == before
    other = Cache(tmp_path, frozen, store, CPU, said.append).drawn(VIEW, 0, 0, 2)
    assert not np.array_equal(other, first)


def test_an_ended_pass_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, store = teacher(), noise()
    whole = Cache(tmp_path / "whole", frozen, store, CPU, quiet).plain()
    monkeypatch.setattr(module, "BLOCK", 6)
    stopping = teacher()
    answer: Callable[..., TeacherFeatures] = stopping.network.network.forward

    def tire(images: torch.Tensor, maps: bool) -> TeacherFeatures:
        if stopping.network.network.asked >= 8 + 20 + 12:  # what the time is taken of, and two blocks
            raise KeyboardInterrupt
        return answer(images, maps)

    monkeypatch.setattr(stopping.network.network, "forward", tire)
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path / "ended", stopping, store, CPU, quiet).plain()
    again = teacher()
    assert np.array_equal(Cache(tmp_path / "ended", again, store, CPU, quiet).plain(), whole)
    assert again.network.network.asked == 8 + 20 + 8  # eight rows were left


@pytest.mark.parametrize(
    ("frozen", "store", "what"),
    [(teacher("second"), noise(), "teacher"), (teacher(), noise(seed=1), "store"), (teacher(), noise(19), "store")],
)
def test_a_cache_of_another_teacher_or_store_is_refused(
    tmp_path: Path, frozen: LoadedTeacher, store: Store, what: str
) -> None:
    Cache(tmp_path, teacher(), noise(), CPU, quiet)
    with raises("other-cache", what):
        Cache(tmp_path, frozen, store, CPU, quiet)


def test_a_centre_is_subtracted_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path, teacher(), noise(), CPU, quiet)
    center = cache.plain().astype(np.float32).mean(0)
    centred, mark = cache.centred(center)
    np.testing.assert_allclose(centred, cache.plain() - center, atol=1e-3)
    assert cache.centred(center)[1] == mark
    assert cache.centred(center + 1)[1] != mark
    assert len(list(tmp_path.glob("centered-*.npy"))) == 2


def test_damaged_files_are_said(tmp_path: Path) -> None:
    cache = Cache(tmp_path, teacher(), noise(), CPU, quiet)
    cache.plain()
    (vectors,) = tmp_path.glob("*.npy")
    whole = vectors.read_bytes()
    vectors.write_bytes(b"junk" + whole[4:])
    with raises("damaged-array", vectors):
        cache.plain()
    np.save(vectors, np.zeros((40, 3), np.float16))
    with raises("damaged-array", "(40, 3)", "(20, 6)"):
        cache.plain()
    vectors.write_bytes(b"half")  # rows that are lost are computed again
    cache.plain()
    assert vectors.read_bytes() == whole
    (tmp_path / "cache.json").write_text("{")
    with raises("not-json", tmp_path / "cache.json"):
        Cache(tmp_path, teacher(), noise(), CPU, quiet)


def test_a_full_disk_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: replace_free(0))
    frozen = teacher()
    with raises("disk-full", "0 bytes", "240 bytes", "--teacher.cached-views 0"):
        Cache(tmp_path, frozen, noise(), CPU, quiet).plain()
    assert list(tmp_path.glob("*.npy")) == []


def replace_free(free: int) -> object:
    return type("Usage", (), {"free": free})()


@pytest.mark.parametrize("center", [False, True])
def test_kept_answers_are_live_ones_for_images_and_mates(tmp_path: Path, center: bool) -> None:
    frozen, store = teacher(), noise()
    bags = ((np.arange(20) + 3) % 20)[:, None].astype(np.int32)
    teacher_view = replace(SEEN, crop_of=1)
    views = (*view_specs([View(size=8)] * 2), teacher_view, replace(teacher_view, image="partner"))
    loader = Loader(store, views, 10, seed=0, device=CPU, sampling=SamplingPlan(bags=bags))
    passes = keep(Cache(tmp_path, frozen, store, CPU, quiet), DrawSchedule(views, 0, 2))
    live = LiveTeacher(frozen, views, sample(frozen), center=center)
    kept = Kept(frozen, views, sample(frozen), passes, center=center)
    for batch in loader.batches(0, 4):  # two epochs, two draws
        now, then = live(batch), kept(batch)
        assert len(now.vectors) == len(then.vectors) == 2
        for a, b in zip(now.vectors, then.vectors, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-3)
        check_alike(live, kept, batch)
    assert torch.equal(live.sample, kept.sample)
    assert (live.sample.mean(0).norm() < 1e-6) == center


def test_answers_that_are_not_the_teachers_are_refused(tmp_path: Path) -> None:
    frozen, store = teacher(), noise()
    views = (*view_specs([View(size=8)]), SEEN)
    passes = keep(Cache(tmp_path, frozen, store, CPU, quiet), DrawSchedule(views, 0, 1))
    live = LiveTeacher(frozen, views, sample(frozen), center=False)
    wrong = Kept(frozen, views, sample(frozen), [{0: np.roll(passes[0][0], 1, axis=0)}], center=False)
    batch = next(Loader(store, views, 20, seed=0, device=CPU).batches(0, 1))
    with pytest.raises(UserError, match="remove the cache"):
        check_alike(live, wrong, batch)


def test_a_live_teacher_gives_the_map_of_what_the_student_sees_first() -> None:
    frozen, store = teacher(), noise()
    views = (*view_specs([View(size=8)]), replace(SEEN, crop_of=1), SEEN)
    batch = next(Loader(store, views, 20, seed=0, device=CPU).batches(0, 1))
    answer = LiveTeacher(frozen, views, sample(frozen), center=False, maps=True)(batch)
    assert answer.feature_map is not None
    torch.testing.assert_close(answer.feature_map, F.adaptive_avg_pool2d(batch.views[2], 2))
    assert LiveTeacher(frozen, views, sample(frozen), center=False)(batch).feature_map is None


def test_the_manifest_says_what_was_shown(tmp_path: Path) -> None:
    Cache(tmp_path, teacher(), noise(), CPU, quiet).drawn(VIEW, 0, 5, 1)
    (mark,) = (path for path in tmp_path.glob("*.json") if path.name != "cache.json")
    manifest = json.loads(mark.read_text())
    shown = manifest["settings"]
    assert manifest["rows"] == 20
    assert (shown["number"], shown["drawn_from"], shown["draw"]) == (0, 5, 1)
    assert shown["view"]["scale"] == list(VIEW.scale)
