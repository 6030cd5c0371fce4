"""Cached feature maps: how they are coded, that they are those of the loader's views, and whole runs with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from limbeck.data.augment.views import View
from limbeck.data.loader import Loader
from limbeck.data.store.store import Store
from limbeck.losses.tokens import token_relation_loss
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.teachers.cache import FeatureCache
from limbeck.teachers.load import load_teacher
from limbeck.teachers.map_code import encode_maps, principal_axes
from limbeck.teachers.setup import build_distillation_inputs, prepare_teacher
from tests.helpers.distill import CUSTOM, TRAINING, Quarters, distill_digits, images, small

CPU = torch.device("cpu")
KEPT = replace(CUSTOM, cached_views=2)
WEIGHTS = "encoder/model.safetensors"
DENSE: dict[str, Any] = {"method": replace(small("simreg"), dense_weight=1.0), "training": replace(TRAINING, epochs=1)}


def test_axes_are_those_of_all_positions_about_the_origin() -> None:
    """Two of five axes have nearly all of vectors near a plane; the reference is the SVD of the rows."""
    draws = torch.Generator().manual_seed(0)
    plane = torch.randn(5, 2, generator=draws, dtype=torch.float64)
    maps = torch.einsum("ck,bkhw->bchw", plane, 3 + torch.randn(6, 2, 3, 4, generator=draws, dtype=torch.float64))
    maps = maps + 0.01 * torch.randn(6, 5, 3, 4, generator=draws, dtype=torch.float64)
    found = principal_axes(maps.float().split(4), components=2)
    rows = torch.stack(
        [maps[i, :, j, k] / maps[i, :, j, k].norm() for i in range(6) for j in range(3) for k in range(4)]
    )
    _, values, axes = torch.linalg.svd(rows, full_matrices=False)
    signs = (found.axes.double() * axes[:2].mT).sum(0).sign()
    torch.testing.assert_close(found.axes.double() * signs, axes[:2].mT, rtol=0, atol=1e-4)
    assert found.share == pytest.approx(float(values[:2].square().sum() / values.square().sum()), abs=1e-5)
    assert found.share > 0.999


def test_a_code_keeps_directions_up_to_rounding() -> None:
    draws = torch.Generator().manual_seed(0)
    maps, axes = torch.randn(3, 6, 4, 4, generator=draws), torch.linalg.qr(torch.randn(6, 6, generator=draws)).Q
    coded = encode_maps(maps, axes)
    assert coded.dtype == torch.int8
    assert (coded.abs().amax(dim=1) == 127).all()
    exact = torch.einsum("bchw,ck->bkhw", maps, axes)
    assert F.cosine_similarity(coded.float(), exact, dim=1).min() > 0.9999
    student = torch.randn(3, 5, 2, 2, generator=draws)
    losses = [token_relation_loss(student, teacher, 0.2) for teacher in (maps, coded.float())]
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=5e-3)


def test_cached_maps_are_coded_live_ones(tmp_path: Path) -> None:
    store = Store.from_arrays(np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3), dtype=np.uint8))
    context = prepare_teacher(load_teacher(KEPT, teacher_module=Quarters()), store, TRAINING).value
    method = SimRegConfig(dense_weight=1.0)
    inputs = build_distillation_inputs(context, method, method.make_views(16), tmp_path)
    loader = Loader(store, inputs.views, 30, seed=3, device=CPU, sampling=inputs.sampling)
    axes = FeatureCache(tmp_path / "teacher", context.teacher, store, CPU).map_axes()
    assert inputs.teacher.map_dim == axes.shape[1] == 3
    rows = np.arange(30)
    batch = loader.fixed_batch(rows, teacher_views=True)
    live = context.teacher.network(batch.views[1], feature_map=True).feature_map
    assert live is not None
    first, second, again = (inputs.teacher(batch._replace(view_epoch=epoch % 2)).feature_map for epoch in range(3))
    assert first is not None
    assert second is not None
    assert first.shape == (30, 3, 4, 4)
    assert F.cosine_similarity(first, torch.einsum("bchw,ck->bkhw", live, axes), dim=1).min() > 0.999
    assert torch.equal(first, again if again is not None else second)
    assert F.cosine_similarity(first, second, dim=1).min() < 0.9
    assert len(next(loader.batches(0, 1)).views) == 1, "no view of the teacher is computed"


def test_maps_are_added_to_vectors_that_are_there(tmp_path: Path) -> None:
    """A run without a dense term has stored its vectors; one with it computes maps alone and then nothing."""
    network = Quarters()
    cache = FeatureCache(tmp_path, load_teacher(CUSTOM, teacher_module=network), Store.from_arrays(*images()), CPU)
    view = View(size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    vectors = np.array(cache.view_features(view, 0, 0, 1))
    (file,) = tmp_path.glob("*[0-9a-f].npy")
    written = file.stat().st_mtime_ns
    maps = np.array(cache.view_maps(view, 0, 0, 1))
    assert maps.shape == (100, 3, 4, 4)
    assert maps.dtype == np.dtype(np.int8)
    assert file.stat().st_mtime_ns == written
    network.mix.weight.requires_grad_(False).zero_()
    np.testing.assert_array_equal(cache.view_features(view, 0, 0, 1), vectors)
    np.testing.assert_array_equal(cache.view_maps(view, 0, 0, 1), maps)
    assert not list(tmp_path.glob("pass-*"))


def test_a_run_with_cached_maps_gives_the_student_of_a_live_teacher(tmp_path: Path) -> None:
    """In one epoch both get the first draw; BINGO, which has no such view otherwise, gets one for the map."""
    training = replace(TRAINING, epochs=1)
    live, cached = (
        load_file(distill_digits(tmp_path / str(views), replace(CUSTOM, cached_views=views), **DENSE) / WEIGHTS)
        for views in (0, 1)
    )
    for name, value in live.items():
        torch.testing.assert_close(cached[name].float(), value.float(), rtol=0, atol=5e-3)
    method = replace(small("bingo"), dense_weight=1.0)
    run = distill_digits(tmp_path / "bingo", replace(CUSTOM, cached_views=1), method=method, training=training)
    assert "dense" in (run / "metrics.csv").read_text().splitlines()[0]
