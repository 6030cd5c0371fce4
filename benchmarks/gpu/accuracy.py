"""Accuracy against time: CIFAR-10, 20-NN and linear probe on features that are trained without labels."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cifar10_methods import arms
from benchmarks.gpu.record import Findings, Machine
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.methods import HostConfig, MethodConfig, method_config
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.runs.api import distill, pretrain
from limbeck.runs.request import RunSettings
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig
from tests.helpers.tiny import shrink

RESNET = BackboneConfig(name="resnet18", image_size=32)
SMALL = BackboneConfig(
    name="resnet18", image_size=32, args={"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
)


TOY = BackboneConfig(name="resnet18", image_size=32, args={"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]})
TOY_VIT = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
VIT_S = BackboneConfig(name="vit_small_patch16_224", image_size=32, args={"patch_size": 4})


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A run: the method, and for how long."""

    name: str
    method: MethodConfig
    backbone: BackboneConfig = RESNET
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3, weight_decay=0.01))
    epochs: float = 15
    batch: int = 512
    linear: str = "none"
    compile: bool = False
    teacher: TeacherConfig | None = None

    def as_toy(self) -> "Arm":
        """Return a run of a few steps of few images, through the same code."""
        is_vit = self.backbone.name.startswith("vit")
        backbone = replace(self.backbone, args=TOY_VIT) if is_vit else TOY
        return replace(self, method=shrink(self.method), backbone=backbone, epochs=0.2, batch=16, compile=False)


def simclr(**options: Any) -> MethodConfig:
    """Return a method with heads for CIFAR."""
    base = method_config("simclr")(views="mocov2", temperature=0.2)  # type: ignore[call-arg]
    return replace(base, **options)


def stores(machine: Machine) -> tuple[Store, Store]:
    """Return the stores of CIFAR-10, which are built once."""
    out = []
    for name, source in (("train", machine.train), ("test", machine.test)):
        folder = machine.baseline / f"c10-{name}"
        out.append(Store.open(folder) if folder.exists() else build_store(source, folder))
    return out[0], out[1]


def score(machine: Machine, arm: Arm) -> dict[str, Any]:
    """Train an arm and evaluate it."""
    bank, queries = stores(machine)
    arm = arm.as_toy() if machine.toy else arm
    run = machine.baseline / f"run-{arm.name}"
    start = time.perf_counter()
    train(arm, str(bank.path), run)
    spent = time.perf_counter() - start
    cfg = EvaluateConfig(latency=False, linear=arm.linear, references=False, progress=False, batch_size=1024)  # type: ignore[arg-type]
    result = evaluate(load(run), bank, queries, cfg, preprocessing=load_preprocessing(run))
    values = result.layers[-1].values
    return {
        "arm": arm.name,
        "epochs": arm.epochs,
        "batch": arm.batch,
        "train_s": round(spent, 1),
        "images_per_s": round(arm.epochs * len(bank) / spent),
        "knn": round(100 * (values["knn"] or 0), 2),
        "linear": None if (linear := values.get("linear")) is None else round(100 * linear, 2),
        "knn_by_layer": [round(100 * (layer.values["knn"] or 0), 1) for layer in result.layers],
    }


def train(arm: Arm, store: str, run: Path) -> None:
    """Train an arm: alone, or from its teacher."""
    settings: RunSettings = {
        "method": arm.method,
        "optim": arm.optim,
        "training": TrainConfig(
            epochs=arm.epochs,
            batch_size=arm.batch,
            eval_every_epochs=0,
            health_every_steps=0,
            log_every_steps=100,
            checkpoint_every_minutes=60,
            stop_on_collapse=False,
            compile=arm.compile,
        ),
    }
    if arm.teacher:
        distill(store, run, teacher=arm.teacher, student=arm.backbone, **settings)
    else:
        pretrain(store, run, backbone=arm.backbone, **settings)


def minute(machine: Machine) -> Findings:
    """Measure the accuracy of SimCLR with a ResNet-18 after a minute, for two optimizers; the aim is 85 % by k-NN."""
    lars = OptimConfig(name="lars", lr=0.6, weight_decay=1e-5)
    yield score(machine, Arm(name="adamw-512", method=simclr(), epochs=20, compile=True))
    yield score(machine, Arm(name="lars-512", method=simclr(), epochs=20, optim=lars, compile=True))


def five_minutes(machine: Machine) -> Findings:
    """Measure SimCLR with a ResNet-18 after five minutes; the aim is 91 % by k-NN."""
    yield score(machine, Arm(name="five-minutes", method=simclr(), epochs=110, linear="logistic", compile=True))


def fifteen_minutes(machine: Machine) -> Findings:
    """Measure SimCLR with a ResNet-18 after fifteen minutes; the aim is 93.5 % by the linear probe."""
    yield score(machine, Arm(name="fifteen-minutes", method=simclr(), epochs=340, linear="logistic", compile=True))


def family(machine: Machine) -> Findings:
    """Measure every method without a frozen teacher, with the same small ResNet and number of epochs."""
    for name, config in list(arms().items())[: 1 if machine.toy else None]:
        try:
            yield score(machine, Arm(name=f"family-{name}", method=config, backbone=SMALL, epochs=8, batch=256))
        except Exception as error:
            yield {"arm": name, "error": f"{type(error).__name__}: {error}"}
        torch.cuda.empty_cache()


def layers(machine: Machine) -> Findings:
    """Measure every layer of a ViT-S under SDSSL and under its host, MoCo v3, after as many steps."""
    host = method_config("mocov3")()
    assert isinstance(host, HostConfig)
    for name, method in {"host": host, "sdssl": method_config("sdssl")(host=host)}.items():  # type: ignore[call-arg]
        optim = OptimConfig(lr=5e-4, weight_decay=0.05)
        yield score(machine, Arm(name=f"layers-{name}", method=method, backbone=VIT_S, optim=optim, epochs=8))


def distillation(machine: Machine) -> Findings:
    """Measure a small ResNet that is distilled from the run of a minute, live and with cached features."""
    teacher = machine.baseline / "run-adamw-512"
    if not teacher.exists():
        yield score(machine, Arm(name="adamw-512", method=simclr(), epochs=20))
    for name, views in (("live", 0), ("cached", 2)):
        cfg = TeacherConfig(name=str(teacher), cached_views=views)
        method = method_config("simreg")()
        yield score(machine, Arm(name=f"distill-{name}", method=method, backbone=SMALL, teacher=cfg, epochs=20))
