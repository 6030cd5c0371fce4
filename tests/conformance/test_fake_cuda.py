"""Without a GPU: on a CUDA device of fake tensors nothing waits for a value and every tensor is where it belongs."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.core.types import Batch, Encoder
from limbeck.data import loader as loading
from limbeck.data.augment.apply import augment, eval_view
from limbeck.data.augment.draw_parameters import sample_params
from limbeck.data.augment.views import PRESETS, View, preset
from limbeck.data.sampling import SamplingPlan, ViewSpec
from limbeck.data.store.store import Store
from limbeck.evaluation.logistic_probe import LogisticHeads, LogisticProbe
from limbeck.methods import Method, MethodConfig
from limbeck.metrics import lbfgs
from limbeck.metrics.knn import knn_votes
from limbeck.metrics.representation import effective_rank, normalized_std, uniformity
from limbeck.models.ema import EMA
from limbeck.neighbors.search import top_k
from limbeck.teachers.cache import Vectors
from limbeck.teachers.load import load_teacher
from limbeck.teachers.outputs import CachedTeacher, LiveTeacher
from limbeck.train.config import OptimConfig
from limbeck.train.health.read import _dead_fraction, _hash
from limbeck.train.optim import build_optimizer
from tests.helpers.distill import CUSTOM, Quarters
from tests.helpers.fake_cuda import CUDA, FakeCuda, Watch, autocast, backward, devices, fake_cuda
from tests.helpers.tiny import STEP, batch_for, build, configs, encoder_for, tiny_vit

CONFIGS = configs()
BUDGET = 200
"""Most launches of a step's forward pass and updates outside the backbones; SDSSL has as many again for each layer."""
VIEW_BUDGET = 200
"""Most launches of a view, whatever the number of images and however their jitters differ."""


def moved(cuda: FakeCuda, method: Method) -> Method:
    cuda.move_module(method)
    if hasattr(method, "teacher"):
        cuda.move_attributes(method.teacher)
    for module in getattr(method, "_teacher", ()):  # which no state_dict holds
        cuda.move_module(module)
    return method


def step(config: MethodConfig, dtype: torch.dtype, count: int) -> tuple[int, int]:
    """Run a step on the device; return the launches of `forward` and `after_step`, and of these those of backbones."""
    method, batch, inside, before = build(config, encoder_for(config)), batch_for(config, count), 0, 0
    with fake_cuda() as cuda, autocast(dtype), Watch() as watch:
        method, batch = moved(cuda, method), cuda.move(batch)
        watch.launches = 0

        def enter(*_: object) -> None:
            nonlocal before
            before = watch.launches

        def leave(*_: object) -> None:
            nonlocal inside
            inside += watch.launches - before

        found = (*method.modules(), *getattr(method, "_teacher", ()))
        for backbone in (module for module in found if isinstance(module, Encoder)):
            backbone.register_forward_pre_hook(enter)
            backbone.register_forward_hook(leave)
        loss = method(batch, STEP)
        launches = watch.launches
        if dtype is torch.bfloat16:  # fp16 has the same graph
            gradients = backward(loss.total)
            assert devices(list(gradients.values())) == {"cuda"}
            assert set(gradients) == {parameter for parameter in method.parameters() if parameter.requires_grad}
        launches -= watch.launches
        with torch.no_grad():
            method.after_step(loss, STEP)
        assert devices((loss, method.state_dict())) == {"cuda"}
        assert loss.total.dtype is torch.float32
        return launches + watch.launches, inside


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_step_waits_for_nothing_and_has_few_launches(config: MethodConfig) -> None:
    layers = 3 if hasattr(config, "host") else 1
    for dtype, count in ((torch.bfloat16, 24), (torch.float16, 48)):
        launches, inside = step(config, dtype, count)
        assert 0 < launches - inside <= BUDGET * layers


@pytest.mark.parametrize("name", PRESETS)
def test_views_are_made_on_the_device(name: str) -> None:
    rows, side = torch.arange(6), torch.full((6,), 40)
    for index, view in enumerate(preset(name, 32)):
        params = sample_params(view, index, rows, side, side, 40, seed=0, epoch=0)
        with fake_cuda() as cuda, Watch():
            pixels = cuda.move(torch.zeros(6, 40, 40, 3, dtype=torch.uint8))
            made = augment(pixels, view, params, (0.5,) * 3, (0.2,) * 3)
            assert (made.device, made.shape) == (CUDA, (6, 3, view.size, view.size))
            assert eval_view(pixels, 32, (0.5,) * 3, (0.2,) * 3).device == CUDA


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [32, 96])
def test_a_view_of_many_images_has_few_launches(name: str, size: int) -> None:
    """Among 500 images each order of the jitter and each turn of the hue occurs."""
    rows, side = torch.arange(500), torch.full((500,), 100)
    for index, view in enumerate(preset(name, size)):
        params = sample_params(view, index, rows, side, side, 100, seed=0, epoch=0)
        with fake_cuda() as cuda:
            pixels = cuda.move(torch.zeros(500, 100, 100, 3, dtype=torch.uint8))
            with Watch() as watch:
                augment(pixels, view, params, (0.5,) * 3, (0.2,) * 3)
        assert 0 < watch.launches <= VIEW_BUDGET


@pytest.mark.parametrize("resident", [False, True])
def test_a_loader_does_not_wait_for_its_copies(resident: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gather = loading._gather
    monkeypatch.setattr(loading, "_fits", lambda images, device: False)
    monkeypatch.setattr(loading, "_gather", lambda images, rows, pin: gather(images, rows, False))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)  # which takes a driver
    store, view = Store.from_arrays(np.zeros((12, 20, 20, 3), np.uint8), np.arange(12) % 2), preset("byol", 16)[0]
    views = (ViewSpec(augmentation=view), ViewSpec(augmentation=view, image="partner"))
    plan = SamplingPlan(bags=np.arange(12)[::-1, None].copy())
    loader = loading.Loader(store, views, 6, seed=0, device=CUDA, sampling=plan)
    raw = loader._read(np.arange(6), 0)
    with fake_cuda() as cuda, Watch():
        if resident:
            loader._resident = cuda.move(torch.from_numpy(store.images))
        batch = loader._batch(raw, [0, 1])
        assert devices(batch) == {"cuda"}
        assert batch.partner_indices is not None
        assert [rows.tolist() for rows in batch.host_rows] == [list(range(6)), list(range(11, 5, -1))]


def test_teachers_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live one, and cached features on the device and on the host."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    teacher, rows = load_teacher(CUSTOM, teacher_module=Quarters()), np.arange(6)
    views = (ViewSpec(augmentation=View(size=16), network="teacher", crop_of=0),)
    passes: list[dict[int, Vectors]] = [{0: np.ones((9, teacher.dim), np.float16)}]
    live = LiveTeacher(teacher, views, torch.rand(8, teacher.dim), center=True, feature_map=True)
    cached = CachedTeacher(teacher, views, torch.rand(8, teacher.dim), passes, center=True)
    live._device = cached._device = CUDA
    with fake_cuda() as cuda, Watch():
        cuda.move_module(teacher.network)
        batch = Batch(cuda.move((torch.rand(6, 3, 16, 16),)), cuda.move(torch.from_numpy(rows)), host_rows=(rows,))
        on_host = cached(batch)
        cached._resident = [{0: cuda.move(torch.from_numpy(passes[0][0]))}]
        assert devices((live(batch), on_host, cached(batch))) == {"cuda"}


def test_probes_neighbors_and_health_wait_once_at_the_end() -> None:
    features, labels = {1: torch.randn(20, 4), 2: torch.randn(20, 3)}, torch.arange(20) % 3
    heads = LogisticHeads(features, labels, 3, torch.device("cpu"), LogisticProbe().ridge)
    weights = list(tiny_vit().parameters())
    with fake_cuda() as cuda, Watch():
        heads.features, heads.labels, heads.device = cuda.move(features), cuda.move(labels), CUDA
        heads.coordinates = cuda.move(heads.coordinates)
        penalty, shape, row_weights = cuda.move(torch.ones(2)), heads.weights.shape, cuda.move(torch.ones(20))

        def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
            value, gradient = heads.objective(flat.view(shape), row_weights, penalty)
            return value, gradient.flatten(1)

        state = lbfgs._begin(objective, cuda.move(heads.weights).flatten(1), penalty)
        heads.weights = lbfgs._advance(state, objective).point.view(shape)
        rows = heads.features[1]
        found = top_k([(0, rows @ rows.T)], 5)
        votes = knn_votes(found.scores, heads.labels[found.positions], 3, 0.07)
        health = [effective_rank(rows), normalized_std(rows), uniformity(rows), _dead_fraction([rows])]
        results = (heads.accuracy(heads.features, labels, row_weights), votes, health, _hash(cuda.move(weights)))
        assert devices(results) == {"cuda"}


def test_the_backward_pass_without_an_engine_is_torchs() -> None:
    method, batch = build(CONFIGS["wmse"], tiny_vit()).double(), batch_for(CONFIGS["wmse"], dtype=torch.float64)
    found = backward(method(batch, STEP).total)
    method(batch, STEP).total.backward()
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_wait_and_a_mixture_of_devices_are_found() -> None:
    with fake_cuda() as cuda, Watch():
        values = cuda.move(torch.ones(3))
        with pytest.raises(RuntimeError):
            values.sum().item()
        with pytest.raises(RuntimeError):
            values[values > 0]
        with pytest.raises(RuntimeError):
            values + torch.ones(3)
        with pytest.raises(AssertionError, match="waits"):
            values.cpu()
        with pytest.raises(AssertionError, match="waits"):
            torch.ones(3).to(CUDA)


def test_the_hash_of_the_weights_is_that_of_whole_numbers() -> None:
    weights = [torch.randn(7, 3), torch.randn(5)]
    total = 0
    for weight in weights:
        bits = weight.view(torch.int32).flatten().tolist()
        total = 31 * total + sum(int(b) * int(p) for b, p in zip(bits, np.arange(1, 2 * len(bits), 2), strict=True))
    assert int(_hash(weights)) == total % 2**48


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_all_weights_are_updated_by_a_few_launches(name: Literal["adamw", "adam"]) -> None:
    """The fused optimizer has two for each group of parameters, an EMA encoder one, whatever the number of weights."""
    network = tiny_vit()
    average = EMA(network)
    with fake_cuda() as cuda, torch.no_grad():
        cuda.move_module(network)
        cuda.move_module(average)
        optimizer = build_optimizer(network, OptimConfig(name=name))
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # which makes the moments
        with Watch() as watch:
            optimizer.step()
            assert 0 < watch.launches <= 2 * len(optimizer.param_groups)
        with Watch() as watch:
            average.update(network, 0.9)
            assert watch.launches == 1
