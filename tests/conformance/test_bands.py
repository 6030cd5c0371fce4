"""Bands: what every method does with 1,000 real digits in a few seconds, so that a method that breaks is seen.

The k-NN accuracy of so few steps says little: it starts at 0.38. A collapse shows in the rank, another method in the
loss, and a teacher that follows too fast or not at all in how far it is behind.
"""

from functools import cache
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from limbeck.core.types import DataContext, StepInfo
from limbeck.data.augment.apply import eval_view
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.loader import Loader
from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.methods import Method, MethodConfig
from limbeck.metrics.knn import knn_accuracy
from limbeck.metrics.representation import effective_rank
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.train.config import OptimConfig
from limbeck.train.optim import build_optimizer
from tests.helpers import tiny
from tests.helpers.tiny import configs, has_band

SIZE, BATCH, STEPS, LR = 16, 48, 48, 3e-3
NET = BackboneConfig(name="resnet18", image_size=SIZE, args={"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]})
CONFIGS = configs(
    DataContext(num_images=1000, batch_size=BATCH, forward_batch_size=BATCH, num_classes=10),
    hidden=64,
    dim=16,
    queue_size=240,
    num_prototypes=6,
    warmup_steps=2,
)
NAMES = [name for name in CONFIGS if has_band(name)]


class Reached(NamedTuple):
    """What a run ends with."""

    loss: float  # mean of the last 10 steps
    knn: float  # 20-NN accuracy of 250 digits in 1,000
    rank: float  # effective rank of the features of those 250
    behind: float  # distance of student and teacher, as a share of the way that the student has come; 0: no teacher


class Band(NamedTuple):
    """Where these numbers have to lie."""

    loss: tuple[float, float] = (0.0, 100.0)
    rank: float = 16.0  # at least
    behind: tuple[float, float] = (0.0, 1.0)


LEAST_KNN = 0.33
# Seeds 0 to 4, the range widened by half of itself on both sides (at least by 0.5 % of a loss, 0.001 of `behind`).
# With the kernels of another CPU (ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41) seed 0 stays within.
# A method that is not here has to keep the rank. dino and empssl: seeds 0 to 2.
# anchor: its teacher is another network here, and in `limbeck adapt` the network itself.
BANDS = {
    "anchor": Band(loss=(5.65, 6.16), rank=2),
    "barlow": Band(loss=(5.8, 13.5), rank=17),
    "bingo": Band(loss=(5.37, 5.50), rank=19),
    "byol": Band(loss=(0.80, 2.67), rank=23, behind=(0.950, 0.958)),
    "cgh": Band(loss=(5.43, 5.67), rank=16, behind=(0.967, 0.971)),
    "compress": Band(loss=(1.59, 1.81), rank=24),
    "cone": Band(loss=(2.94, 3.07), rank=18, behind=(0.968, 0.972)),
    "dino": Band(loss=(1.72, 1.95), rank=23, behind=(0.949, 0.982)),
    "disco": Band(loss=(41.2, 59.1), rank=22, behind=(0.975, 0.978)),
    "empssl": Band(loss=(-203.2, -201.0), rank=16),
    "lejepa": Band(loss=(0.64, 0.82), rank=17),
    "moby": Band(loss=(11.01, 11.48), rank=18, behind=(0.905, 0.914)),
    "mobyv2al": Band(loss=(7.21, 7.41), rank=21, behind=(0.941, 0.947)),
    "mocov2": Band(loss=(5.39, 5.53), rank=14, behind=(0.970, 0.977)),
    "mocov3": Band(loss=(3.22, 3.43), rank=24, behind=(0.956, 0.964)),
    "msvq": Band(loss=(5.43, 5.50), rank=18, behind=(0.703, 0.766)),
    "ressl": Band(loss=(5.38, 5.51), rank=18, behind=(0.970, 0.974)),
    "s2r2": Band(loss=(0.926, 0.947), rank=18),
    "sdssl-byol": Band(loss=(4.59, 15.3), rank=24, behind=(0.950, 0.959)),
    "seed": Band(loss=(3.71, 4.51), rank=25),
    "simclr": Band(loss=(5.16, 5.57), rank=17),
    "simreg": Band(loss=(0.613, 0.841), rank=22),
    "simsiam": Band(loss=(-0.43, 0.12), rank=17),
    "swav": Band(loss=(1.95, 2.75), rank=12),
    "vicreg": Band(loss=(20.7, 21.7), rank=15),
    "wcl": Band(loss=(8.28, 8.44), rank=18),
    "wmse": Band(loss=(1.79, 1.94), rank=19),
}


@cache
def stores() -> tuple[Store, Store]:
    """1,000 digits to learn from and 250 others, 16 pixels squared."""
    images, labels = digits()
    rows = np.random.default_rng(0).permutation(len(images))[:1250]
    small = np.ascontiguousarray(images[rows, 6:22, 6:22])
    return Store.from_arrays(small[:1000], labels[rows[:1000]]), Store.from_arrays(small[1000:], labels[rows[1000:]])


def learn(config: MethodConfig, seed: int = 0) -> Reached:
    """Return what a method reaches in `STEPS` steps."""
    torch.manual_seed(seed)
    method = tiny.build(config, build_backbone(NET))
    start = parameters_to_vector(method.backbone.parameters()).detach().clone()
    sampling = tiny.sampling(config, stores()[0])
    loader = Loader(
        stores()[0], config.make_views(SIZE), BATCH, seed=seed, device=torch.device("cpu"), sampling=sampling
    )
    optimizer = build_optimizer(method, OptimConfig(lr=LR, weight_decay=0.0))
    losses = []
    for step, batch in enumerate(loader.batches(0, STEPS)):
        loss = method(batch, StepInfo(step, STEPS))
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            method.after_step(loss, StepInfo(step, STEPS))
        losses.append(loss.total.item())
    with torch.no_grad():
        return judge(method.eval(), start, fmean(losses[-10:]))


def judge(method: Method, start: Tensor, loss: float) -> Reached:
    """Return the numbers of a method that has trained, from the weights `start` on."""
    images, queries = (look(store) for store in stores())
    bank, features = (method.encoder()(views).final for views in (images, queries))
    labels = [torch.from_numpy(store.labels) for store in stores()]
    student, teacher = method.backbone, method.target_encoder() or method.backbone
    now, then = (parameters_to_vector(net.parameters()) for net in (student, teacher))
    return Reached(
        loss=loss,
        knn=knn_accuracy(bank, labels[0], features, labels[1]),
        rank=float(effective_rank(features)),
        behind=float((now - then).norm() / (now - start).norm()),
    )


def look(store: Store) -> Tensor:
    return eval_view(torch.from_numpy(store.images), SIZE, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learnt_is_within_its_band(name: str) -> None:
    reached, band = learn(CONFIGS[name]), BANDS.get(name, Band())
    assert band.loss[0] <= reached.loss <= band.loss[1]
    assert band.behind[0] <= reached.behind <= band.behind[1]
    assert reached.rank >= band.rank
    assert reached.knn >= LEAST_KNN
