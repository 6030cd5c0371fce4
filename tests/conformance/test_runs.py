"""Laws of whole runs, applied to every method: a stopped run resumes bit for bit, and learning does not collapse."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.core.config import to_json
from limbeck.core.types import DataContext, Encoder, StepInfo
from limbeck.data.augment.apply import eval_view
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.methods import Method, MethodConfig
from limbeck.metrics.representation import effective_rank
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.series.data import SeriesData
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.eval_callback import EvalCallback
from limbeck.train.interrupt import Interrupted
from limbeck.train.loading import BatchLoader
from limbeck.train.loop import train
from limbeck.train.optim import build_optimizer
from tests.helpers import tiny
from tests.helpers.tiny import SIZE, configs, has_band, on_series
from tests.helpers.tiny_series import waves

BATCH = 32
COUNT = 8 * BATCH
STEPS = 25
CONFIGS = configs(
    DataContext(num_images=COUNT, batch_size=BATCH, forward_batch_size=BATCH, num_classes=10),
    hidden=64,
    dim=16,
    num_prototypes=12,
)

every_method = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
WITHOUT_A_BAND = {name: config for name, config in CONFIGS.items() if not has_band(name)}


@pytest.fixture(scope="module")
def store() -> Store:
    """256 digits, at the size of the tiny networks."""
    images, labels = digits()
    rows = np.linspace(0, len(images) - 1, COUNT, dtype=np.int64)
    return Store.from_arrays(np.ascontiguousarray(images[rows, 6:22, 6:22]), labels[rows])


def build(config: MethodConfig) -> Method:
    torch.manual_seed(0)
    if config.only_on:
        return tiny.build(config, tiny.encoder_for(config))
    args = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2, "dynamic_img_size": True}
    return tiny.build(config, build_backbone(BackboneConfig(image_size=SIZE, args=args)))


def stop_at_the_end_of_the_first_epoch(_: Encoder) -> dict[str, float]:
    signal.raise_signal(signal.SIGTERM)
    return {}


@every_method
def test_an_epoch_and_the_next_are_two(config: MethodConfig, store: Store, tmp_path: Path) -> None:
    fewer = Store.from_arrays(store.images[::4], store.labels[::4])
    data = waves(COUNT // 4) if on_series(config) else tiny.paired(config, fewer)
    cfg = TrainConfig(epochs=2, batch_size=BATCH, eval_every_epochs=1)
    views, optim = tiny.views_for(config), OptimConfig(lr=1e-2)

    def run(name: str, eval_callback: EvalCallback | None = None, resume: bool = False) -> Method:
        method = build(config)
        folder = tmp_path / name
        sampling = tiny.sampling(config, data)
        settings = to_json(config)
        train(
            method,
            data,
            views,
            cfg,
            optim,
            folder,
            config=settings,
            eval_callback=eval_callback,
            sampling=sampling,
            loader=tiny.loader_for(config),
            resume=resume,
        )
        return method

    whole = run("whole").state_dict()
    with pytest.raises(Interrupted):
        run("stopped", eval_callback=stop_at_the_end_of_the_first_epoch)
    resumed = run("stopped", resume=True).state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("config", WITHOUT_A_BAND.values(), ids=WITHOUT_A_BAND.keys())
def test_a_few_steps_learn_without_collapse(config: MethodConfig, store: Store) -> None:
    """The loss of the same batches, with the same views, falls; the features of the encoder keep their rank."""
    method = build(config)
    sampling = tiny.sampling(config, store)
    data = waves(COUNT) if on_series(config) else tiny.paired(config, store)
    loader = tiny.loader_for(config)(
        data,
        tiny.views_for(config),
        BATCH,
        seed=0,
        device=torch.device("cpu"),
        rank=0,
        world_size=1,
        accumulate_steps=1,
        sampling=sampling,
    )
    optimizer = build_optimizer(method, OptimConfig(lr=3e-3, weight_decay=0.0))
    end = StepInfo(STEPS - 1, STEPS)
    fill(method, loader)
    before = mean_loss(method, loader, end)
    for step, batch in enumerate(loader.batches(0, STEPS)):
        loss = method(batch, StepInfo(step, STEPS))
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            method.after_step(loss, StepInfo(step, STEPS))
    assert mean_loss(method, loader, end) < 0.99 * before
    assert effective_rank(features(method, data)) > (2 if config.only_on else 4)


@torch.no_grad()
def fill(method: Method, loader: BatchLoader) -> None:
    """Put images in the place of the noise that a queue starts with, without which the first loss is another loss."""
    for batch in loader.batches(STEPS + 4, STEPS + 8):
        method.after_step(method(batch, StepInfo(0, STEPS)), StepInfo(0, STEPS))


@torch.no_grad()
def mean_loss(method: Method, loader: BatchLoader, step_info: StepInfo) -> float:
    return float(torch.stack([method(batch, step_info).total for batch in loader.batches(STEPS, STEPS + 4)]).mean())


@torch.no_grad()
def features(method: Method, store: Store | SeriesData) -> Tensor:
    if isinstance(store, SeriesData):
        return method.encoder().eval()(torch.from_numpy(store.values)).final
    images = eval_view(torch.from_numpy(store.images), SIZE, IMAGENET_MEAN, IMAGENET_STD)
    return method.encoder().eval()(images).final
