"""The whole way on 5,000 handwritten digits: folder, stores, two runs, every layer judged, a cut exported, a report.

    limbeck demo --epochs 12

One run (seed 0, float32, torch 2.15) takes 165 s on two idle x86-64 cores; another one on busy cores took 872 s and
gave the same accuracies, in % of 1,000 test images (deviation of one such
number: about 1.3):

    layer               1     2     3     4     5     6
    k-NN, untrained  56.3  57.9  57.8  58.1  58.5  58.4
    k-NN, simclr     62.2  72.4  76.3  78.4  79.8  80.4
    k-NN, sdssl      64.0  74.1  76.5  77.6  79.7  78.8
    linear, simclr   73.9  78.3  78.2  81.1  80.8  80.8
    linear, sdssl    75.7  77.7  78.9  82.5  83.3  82.3

Training is seen at every layer; with one seed and differences of a deviation or two, which of the two methods is better
is not. Of the hosts tried for 8 epochs under SDSSL, with CLS pooling, MoCo v3 came to 68.9 % k-NN in the last layer and
SimCLR to 77.1 %.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.core.run_folder import CONFIG, ENCODER, RESULT
from limbeck.data.samples import write_digits
from limbeck.data.store.layout import is_store
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.evaluate import EvaluateConfig, EvaluationResult, LayerResult
from limbeck.export import Format, export
from limbeck.methods import HostConfig, MethodConfig
from limbeck.methods.sdssl import SDSSLConfig
from limbeck.methods.simclr import SimCLRConfig
from limbeck.models.backbone import BackboneConfig
from limbeck.report import cheapest_cut, write_report
from limbeck.runs.api import evaluate_run, pretrain, resume
from limbeck.runs.resolve import read_config
from limbeck.train.config import TrainConfig
from limbeck.train.optim import OptimConfig

Say = Callable[[str], None]
VIT = {"patch_size": 7, "embed_dim": 96, "depth": 6, "num_heads": 3, "global_pool": "avg", "class_token": False}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the demo trains, and how; both runs have the same budget."""

    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(image_size=28, args=VIT))
    host: HostConfig = field(default_factory=lambda: SimCLRConfig(hidden=512, views="mocov2"))
    hidden: int = 512
    """Width of the heads of SDSSL's layers."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=4e-3))
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(batch_size=128, precision="fp32", eval_every_epochs=5)
    )
    evaluate: EvaluateConfig = field(default_factory=lambda: EvaluateConfig(progress=False))

    def methods(self) -> dict[str, MethodConfig]:
        """By the name of their run: the host alone, and SDSSL over it."""
        return {self.host.name: self.host, "sdssl": SDSSLConfig(host=self.host, hidden=self.hidden)}


def demo(out: Path, epochs: int, say: Say, plan: Plan | None = None) -> Path:
    """Runs the demo in the folder `out` and returns its report; what is there already is used again.

    Raises:
        UserError: the digits are not installed, or `out` holds runs of another plan or length.
    """
    plan = plan or Plan()
    stores = {split: _store(out, split) for split in ("train", "test")}
    training = replace(plan.training, epochs=epochs)
    runs = {name: out / "runs" / name for name in plan.methods()}
    for name, method in plan.methods().items():
        _train(runs[name], stores["train"], method, training, plan, say)
    results = {name: _judge(run, stores, plan.evaluate, say) for name, run in runs.items()}
    say(table(results))
    best = cheapest_cut(results["sdssl"])
    assert best is not None, "the digits have labels"
    for format in ("onnx", "timm"):
        _export(runs["sdssl"], out / f"sdssl-layer{best.depth}-{format}", best, format, say)
    return write_report([runs["sdssl"], runs[plan.host.name]], out / "report.html")


def _store(out: Path, split: str) -> Store:
    """The store of a split, built from a folder of PNGs as anybody has one."""
    digits, store = out / "digits", out / "stores" / split
    if is_store(store):
        return Store.open(store)
    if not digits.exists():
        half = out / ".digits"
        shutil.rmtree(half, ignore_errors=True)
        write_digits(half)
        os.replace(half, digits)
    return build_store(str(digits / split), store)


def _train(run: Path, store: Store, method: MethodConfig, training: TrainConfig, plan: Plan, say: Say) -> None:
    if not (run / CONFIG).exists():
        say(f"pretraining {run.name} for {training.epochs} epochs, labels unseen")
        pretrain(
            str(store.path), run, method=method, backbone=plan.backbone, optim=plan.optim, training=training, say=say
        )
        return
    there = read_config(run)
    if (there.method, there.backbone, there.optim, there.training) != (method, plan.backbone, plan.optim, training):
        raise UserError(
            f"{run} was trained differently ({there.training.epochs} epochs, not {training.epochs}?): "
            "give the demo another folder with --out, or remove this one"
        )
    if (run / ENCODER).is_dir():
        say(f"{run} is trained already")
    else:
        say(f"going on with {run}")
        resume(run)


def _judge(run: Path, stores: Mapping[str, Store], cfg: EvaluateConfig, say: Say) -> EvaluationResult:
    file = run / RESULT
    if file.exists():
        return EvaluationResult.load(file)
    say(f"judging every layer of {run.name}")
    return evaluate_run(run, str(stores["train"].path), str(stores["test"].path), cfg)


def _export(run: Path, out: Path, row: LayerResult, format: Format, say: Say) -> None:
    if not out.exists():
        done = export(run, out, row.depth, format)
        say(f"{run.name} cut at layer {done.depth}: {done.file_bytes / 1e6:.1f} MB, {done.latency_ms:.2f} ms per image")
    say(f"  {format}: {out}")


def table(results: Mapping[str, EvaluationResult]) -> str:
    """k-NN and linear accuracy of each run beside the untrained network, layer by layer, as text."""
    names = ["untrained", *results]
    pair = " ".join(f"{name:>10}" for name in names)
    lines = [f"{'':24}{'k-NN %':^{len(pair)}}   {'linear %':^{len(pair)}}", f"layer  GFLOPs  latency  {pair}   {pair}"]
    for layers in zip(*(result.layers for result in results.values()), strict=True):
        first = layers[0].values
        latency = f"{ms:.2f} ms" if (ms := first.get("latency_ms")) is not None else "-"
        knn = [first.get("untrained_knn"), *(layer.values.get("knn") for layer in layers)]
        linear = [first.get("untrained_linear"), *(layer.values.get("linear") for layer in layers)]
        lines.append(f"{layers[0].depth:>5}  {first['gflops']:6.4f}  {latency:>7}  {_cells(knn)}   {_cells(linear)}")
    return "\n".join(lines)


def _cells(shares: list[float | None]) -> str:
    return " ".join(f"{'-' if share is None else f'{100 * share:.1f}':>10}" for share in shares)
