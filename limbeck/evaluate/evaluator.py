"""One pass over two stores judges every layer of a backbone, beside the same network at its random initialisation."""

import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch

from limbeck.core.devices import resolve_bf16
from limbeck.core.errors import UserError
from limbeck.core.progress import progress
from limbeck.data.augment.views import preset
from limbeck.data.store.store import Store
from limbeck.evaluate.config import LBFGS_ROWS, EvaluateConfig
from limbeck.evaluate.labels import matched_labels
from limbeck.evaluate.results import Data, Result, Row, finite
from limbeck.evaluate.scores import Bank, Labels, Probe, Scores, labelled_scores, unlabelled_scores
from limbeck.features.extract import extract
from limbeck.features.images import ImageFn, augmented_images, eval_images
from limbeck.metrics.cost import Cost, cost
from limbeck.metrics.representation import Geometry, geometry
from limbeck.models.backbone import Backbone


def evaluate(
    backbone: Backbone, train: Store, test: Store, cfg: EvaluateConfig, *, reference: Backbone | None = None
) -> Result:
    """Judge every tap of `backbone`: probes fitted on `train` and read on `test`, the geometry of `test`, the cost.

    `reference` is the same network at its random initialisation; its numbers stand beside. Two stores without labels
    give geometry and cost alone. One backbone's features are held at a time; both backbones are moved to the device.

    Raises:
        UserError: labels that do not match, one store without labels, fewer than two test images, an unknown device.
    """
    started = time.perf_counter()
    bench = Evaluator.of(train, test, cfg)
    scores = bench.scores(backbone, "features")
    geometries = bench.geometries(backbone)
    beside = bench.scores(reference, "features (random)") if reference is not None else {}
    costs = bench.costs(backbone)
    return Result(
        rows=tuple(_row(tap, costs[tap], scores[tap], geometries[tap], beside.get(tap)) for tap in backbone.taps),
        config=cfg,
        probe=bench.probe,
        classes=tuple(train.label_names) if bench.labels else (),
        train=_data(train),
        test=_data(test),
        seconds=time.perf_counter() - started,
        hardware=_hardware(bench.device),
        command=shlex.join(sys.argv),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluator:
    """Judges one backbone after the other, each on the same images."""

    train: Store
    test: Store
    labels: Labels | None
    probe: Probe
    cfg: EvaluateConfig
    device: torch.device

    @classmethod
    def of(cls, train: Store, test: Store, cfg: EvaluateConfig) -> Self:
        """Match the labels and choose the probe; UserError as `limbeck.evaluate.evaluate` says."""
        if len(test) < 2:
            raise UserError(f"the test store has {len(test)} image: its geometry needs at least 2")
        labels = matched_labels(train, test) if train.labeled or test.labeled else None
        return cls(
            train=train,
            test=test,
            labels=labels,
            probe=_choose_probe(cfg, len(train)) if labels else None,
            cfg=cfg,
            device=_device(cfg.device),
        )

    def scores(self, backbone: Backbone, name: str) -> dict[int, Scores]:
        """The scores of every tap; `name` heads the progress bars."""
        test = self._plain(backbone, self.test, f"{name}: test images")
        return self.judge(test, lambda: self._plain(backbone, self.train, f"{name}: train images"), name)

    def judge(self, test: Bank, train: Callable[[], Bank], name: str) -> dict[int, Scores]:
        """The scores of features of the test images; those of the train images are asked for where there are labels."""
        if self.labels is None:
            return unlabelled_scores(test, self.device)
        show = self._show(f"{name}: linear probe")
        return labelled_scores(train(), test, self.labels, self.cfg, self.probe, self.device, show)

    def geometries(self, backbone: Backbone) -> dict[int, Geometry]:
        """Geometry of every tap on a sample of the test images.

        Both views are drawn from the second of BYOL's augmentations, as the authors of SDSSL do.
        """
        cfg = self.cfg
        count = min(cfg.alignment_images, len(self.test))
        rows = np.sort(np.random.default_rng(cfg.seed).permutation(len(self.test))[:count])
        view = replace(preset("byol", self._size(backbone))[1], mean=cfg.mean, std=cfg.std)
        looks = [augmented_images(self.test, view, i, self.device, cfg.seed) for i in (0, 1)]
        a, b = (self.extract(backbone, look, rows, "two views") for look in looks)
        last = backbone.taps[-1]
        return {tap: geometry(a[tap], b[tap], a[last], b[last]) for tap in backbone.taps}

    def costs(self, backbone: Backbone) -> dict[int, Cost]:
        """Cost of the backbone cut at every tap."""
        size = self._size(backbone)
        image = torch.rand(1, 3, size, size, device=self.device)
        taps = progress(backbone.taps, self._show("cost of each cut"))
        return {tap: cost(backbone.cut(tap).eval(), image, latency=self.cfg.latency) for tap in taps}

    def _plain(self, backbone: Backbone, store: Store, name: str) -> Bank:
        look = eval_images(store, self._size(backbone), self.cfg.mean, self.cfg.std, self.device)
        return self.extract(backbone, look, np.arange(len(store)), name)

    def extract(
        self, backbone: Backbone, look: ImageFn, rows: np.ndarray, name: str, taps: Sequence[int] | None = None
    ) -> Bank:
        """Features of the images that `look` shows at `rows`, at `taps` (all if None), as the configuration says."""
        return extract(
            backbone,
            look,
            rows,
            taps=taps,
            device=self.device,
            batch_size=self.cfg.batch_size,
            bf16=resolve_bf16(self.cfg.precision, self.device),
            memory=int(self.cfg.memory_gib * 2**30),
            show=self._show(name),
        )

    def _size(self, backbone: Backbone) -> int:
        return self.cfg.image_size or backbone.cfg.image_size or 224

    def _show(self, text: str) -> str:
        return text if self.cfg.progress else ""


def _choose_probe(cfg: EvaluateConfig, rows: int) -> Probe:
    if cfg.linear == "auto":
        return "lbfgs" if rows <= LBFGS_ROWS else "sgd"
    return None if cfg.linear == "none" else cfg.linear


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: choose auto, cpu or cuda") from error
    return device


def _row(tap: int, cost: Cost, scores: Scores, geometry: Geometry, beside: Scores | None) -> Row:
    random = {f"random_{name}": value for name, value in beside._asdict().items()} if beside else {}
    measured = scores._asdict() | geometry._asdict() | random
    found: dict[str, Any] = {name: None if value is None else finite(value) for name, value in measured.items()}
    return Row(tap=tap, **cost._asdict(), **found)


def _data(store: Store) -> Data:
    return Data(path=str(store.path) if store.path else None, images=len(store), digest=store.digest)


def _hardware(device: torch.device) -> dict[str, str]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "processor": platform.processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
