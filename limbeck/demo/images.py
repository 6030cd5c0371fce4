"""Run everything once on 5,000 handwritten digits: stores, two runs, evaluation of every layer, export, report.

    limbeck demo --epochs 12

One run (seed 0, float32, torch 2.14) took 5 min 26 s on two idle x86-64 cores. Accuracies in % of 1,000 test images
(the standard error of one such number is about 1.3):

    layer               1     2     3     4     5     6
    k-NN, untrained  56.3  57.9  57.9  58.1  58.4  58.4
    k-NN, simclr     62.5  73.9  77.1  78.9  80.5  80.2
    k-NN, sdssl      64.5  74.6  78.2  79.5  80.8  81.5
    linear, simclr   77.1  77.3  79.1  82.0  81.3  82.0
    linear, sdssl    77.4  77.3  78.1  81.2  81.2  83.4

Training improves every layer. SDSSL is ahead of its host by 0.3 to 2.0 points of k-NN, which one seed and this error do
not decide; another number of threads moves each by about one. Digits are easy: raw pixels have 93.5 %, as the verdict
says.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.core.logs import ensure_visible
from limbeck.core.run_folder import CONFIG, ENCODER, RESULT
from limbeck.core.text import format_bytes, plural
from limbeck.data.samples import write_digits
from limbeck.data.store.layout import is_store
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.results import EvaluationResult, LayerResult
from limbeck.evaluation.verdict import cheapest_cut
from limbeck.exports import Format, export
from limbeck.methods import HostConfig, MethodConfig
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import training_stage
from limbeck.reports.page import write_report
from limbeck.runs.api import evaluate_run, pretrain
from limbeck.runs.config import read_config
from limbeck.runs.resume import resume
from limbeck.train.config import OptimConfig, TrainConfig

logger = logging.getLogger(__name__)

EPOCHS = 12  # of each run
VIT = {"patch_size": 7, "embed_dim": 96, "depth": 6, "num_heads": 3, "global_pool": "avg", "class_token": False}


@dataclass(frozen=True, kw_only=True)
class DemoRecipe:
    """What the demo trains; both runs have the same budget."""

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
        """Return the methods by the names of their runs: the host alone, and SDSSL over it."""
        return {self.host.name: self.host, "sdssl": SDSSLConfig(host=self.host, hidden=self.hidden)}


def demo(out: Path, epochs: int, recipe: DemoRecipe | None = None) -> Path:
    """Run the demo in the folder `out` and return its report; whatever is complete there already is used.

    Raises:
        UserError: the digits are not installed, or `out` contains runs of another recipe or length.
    """
    ensure_visible()
    recipe = recipe or DemoRecipe()
    stores = {split: _store(out, split) for split in ("train", "test")}
    training = replace(recipe.training, epochs=epochs)
    runs = {name: out / "runs" / name for name in recipe.methods()}
    for name, method in recipe.methods().items():
        _train(runs[name], stores["train"], method, training, recipe)
    results = {name: _evaluate(run, stores, recipe.evaluate) for name, run in runs.items()}
    logger.info(table(results))
    for name, result in results.items():
        logger.info("%s: %s", name, result.verdict)
    best = cheapest_cut(results["sdssl"])
    assert best is not None, "the digits have labels"
    for format in ("onnx", "timm"):
        _export(runs["sdssl"], out / f"sdssl-layer{best.depth}-{format}", best, format)
    return write_report([runs["sdssl"], runs[recipe.host.name]], out / "report.html")


def _store(out: Path, split: str) -> Store:
    """Return the store of a split, built from a folder of PNGs as a user has one."""
    digits, store = out / "digits", out / "stores" / split
    if is_store(store):
        return Store.open(store)
    if not digits.exists():
        incomplete = out / ".digits"
        shutil.rmtree(incomplete, ignore_errors=True)
        write_digits(incomplete)
        os.replace(incomplete, digits)
    return build_store(str(digits / split), store)


def _train(run: Path, store: Store, method: MethodConfig, training: TrainConfig, recipe: DemoRecipe) -> None:
    """Train a run, or the rest of it, or nothing if it is complete."""
    if not (run / CONFIG).exists():
        logger.info("pretraining %s for %g epochs, without labels", run.name, training.num_epochs)
        pretrain(str(store.path), run, backbone=recipe.backbone, method=method, optim=recipe.optim, training=training)
        return
    found = read_config(run)
    expected = (method, recipe.backbone, recipe.optim, training)
    if (found.method, found.backbone, found.optim, found.training) != expected:
        raise UserError(
            f"'{run}' was trained with other settings ({plural(found.training.num_epochs, 'epoch')}; this demo has "
            f"{training.num_epochs:g}): set --out to another folder, or remove this one",
            code="demo-differs",
        )
    if (run / ENCODER).is_dir() and not training_stage(run / ENCODER):
        logger.info("'%s' is trained already", run)
    else:
        logger.info("continuing '%s'", run)
        resume(run)


def _evaluate(run: Path, stores: Mapping[str, Store], cfg: EvaluateConfig) -> EvaluationResult:
    file = run / RESULT
    if file.exists():
        return EvaluationResult.load(file)
    logger.info("evaluating every layer of %s", run.name)
    return evaluate_run(run, str(stores["train"].path), str(stores["test"].path), cfg)


def _export(run: Path, out: Path, layer: LayerResult, format: Format) -> None:
    if not out.exists():
        exported = export(run, out, layer.depth, format)
        size = format_bytes(exported.file_bytes)
        logger.info("%s cut at layer %d: %s, %.2f ms per image", run.name, exported.depth, size, exported.latency_ms)
    logger.info("  %s: %s", format, out)


def table(results: Mapping[str, EvaluationResult]) -> str:
    """Return k-NN and linear accuracy of each run and of the untrained network, layer by layer, as text."""
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
