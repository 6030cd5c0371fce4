"""Accuracy against time: CIFAR-10, 20-NN and linear probe on features that are trained without labels."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.cifar10_methods import arms
from benchmarks.gpu.record import Findings, Machine
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.methods import MethodConfig, method_config
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.runs.api import pretrain
from limbeck.train.config import OptimConfig, TrainConfig

RESNET = BackboneConfig(name="resnet18", image_size=32)
SMALL = BackboneConfig(
    name="resnet18", image_size=32, args={"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
)


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
    run = machine.baseline / f"run-{arm.name}"
    start = time.perf_counter()
    pretrain(
        str(bank.path),
        run,
        method=arm.method,
        backbone=arm.backbone,
        optim=arm.optim,
        training=TrainConfig(
            epochs=0.02 if machine.toy else arm.epochs,
            batch_size=arm.batch,
            eval_every_epochs=0,
            health_every_steps=0,
            log_every_steps=100,
            checkpoint_every_minutes=60,
            stop_on_collapse=False,
            compile=arm.compile,
        ),
    )
    spent = time.perf_counter() - start
    cfg = EvaluateConfig(latency=False, linear=arm.linear, linear_epochs=30, progress=False, batch_size=1024)  # type: ignore[arg-type]
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
        "knn_by_stage": [round(100 * (layer.values["knn"] or 0), 1) for layer in result.layers],
    }


def minute(machine: Machine) -> Findings:
    """Measure the accuracy of SimCLR with a ResNet-18 per minute, for two batch sizes and optimizers."""
    lars = OptimConfig(name="lars", lr=0.6, weight_decay=1e-5)
    for arm in (
        Arm(name="adamw-512", method=simclr(), epochs=8),
        Arm(name="lars-512", method=simclr(), epochs=8, optim=lars),
    ):
        yield score(machine, arm)


def five_minutes(machine: Machine) -> Findings:
    """Measure SimCLR with a ResNet-18, with the linear probe."""
    yield score(machine, Arm(name="five-minutes", method=simclr(), epochs=90, linear="sgd", compile=True))


def family(machine: Machine) -> Findings:
    """Measure every method without a frozen teacher, with the same small ResNet and number of epochs."""
    for name, config in arms().items():
        try:
            yield score(machine, Arm(name=f"family-{name}", method=config, backbone=SMALL, epochs=8, batch=256))
        except Exception as error:
            yield {"arm": name, "error": f"{type(error).__name__}: {error}"}
        torch.cuda.empty_cache()
