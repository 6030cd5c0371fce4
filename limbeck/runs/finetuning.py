"""Fine-tune trained weights on labeled images, and compare the result with frozen features on the same labels."""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.classification.saved import load_classifier, write_classifier
from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.core.files import write_json
from limbeck.core.logs import ensure_visible
from limbeck.core.run_folder import CONFIG, ENCODER, FINETUNING
from limbeck.core.text import plural
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_encoder
from limbeck.embeddings.source import embed_source
from limbeck.evaluation.labels import Labels, match_labels, not_labeled
from limbeck.evaluation.logistic_probe import LogisticProbe, fit_heads
from limbeck.evaluation.metric import standard_error
from limbeck.methods import MethodConfig
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.models.start import is_file, start_form
from limbeck.runs.api import start_run
from limbeck.runs.config import read_config
from limbeck.runs.finetune_recipe import FINETUNE_TRAINING, finetune_optim, finetune_training
from limbeck.runs.labeled import LabeledSources
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import resolve_run
from limbeck.runs.resume import resume
from limbeck.train.config import OptimConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A fine-tuned network beside the frozen one, on the same labels and the same test images."""

    run: str
    start: str
    labels: int
    """Images that were trained on."""
    classes: int
    test_images: int
    accuracy: float
    stderr: float
    frozen: float
    """Accuracy of a logistic regression on the features of the start, fitted to the same images."""
    frozen_stderr: float

    def sentence(self) -> str:
        """Return both accuracies."""
        return (
            f"{self.labels:,} labels of {self.classes} classes, {plural(self.test_images, 'test image')}: fine-tuned "
            f"{self.accuracy:.1%} ± {self.stderr:.1%}, frozen features with logistic regression "
            f"{self.frozen:.1%} ± {self.frozen_stderr:.1%}"
        )


def finetune(
    start: str | PathLike[str],
    train_data: Source,
    out: str | PathLike[str],
    *,
    method: MethodConfig,
    test_data: Source,
    depth: int | None = None,
    optim: OptimConfig | None = None,
    training: TrainConfig | None = None,
) -> Finetuned:
    """Train a classifier on trained weights in the folder `out`, and measure it; the same call again goes on.

    Args:
        start: a run, an encoder, an export, a folder of timm's, or "timm:NAME".
        train_data: labeled images to train on.
        out: folder of the run: new, or of the same fine-tuning, which is then continued.
        method: a supervised method that trains a classifier.
        test_data: labeled images to score, once, at the end.
        depth: blocks or stages of the network to keep; by default all.
        optim: by default the recipe for the number of labels.
        training: how long to train; by default 20 epochs, and 500 steps at least.

    Raises:
        UserError: as `limbeck.pretrain`; labels that are missing or do not match, or another run in `out`.
    """
    ensure_visible()
    training = training or FINETUNE_TRAINING
    _check_processes(training)
    form, network = _form(str(start)), load_encoder(start)
    train, test = _open_labeled(LabeledSources(train=train_data, test=test_data, store_size=network.store_size))
    labels = match_labels(train, test)
    rows = method.train_rows(train.labels)
    rows = np.arange(len(train)) if rows is None else rows
    training = finetune_training(training, len(rows))
    request = RunRequest(
        source=train_data if train.path is None else str(train.path),
        method=method,
        backbone=replace(form, cut=depth or form.cut, freeze_patch_embed=False),
        start=StartConfig(name=str(start)),
        optim=optim or finetune_optim(len(rows) / len(train), training.num_epochs),
        training=training,
    )
    run = _train(request, Path(out))
    embed = EmbedConfig(device=training.accelerator)
    frozen = _frozen_accuracy(network, depth or network.last, train, test, rows, labels, embed)
    found = _measure(run, test, labels, frozen, len(rows), str(start), embed)
    write_json(run / FINETUNING, to_json(found))
    return found


def _open_labeled(sources: LabeledSources) -> tuple[Store, Store]:
    """Open both sources; raise UserError where an image has no label."""
    train, test = sources.open()
    for role, source, store in (("train", sources.train, train), ("test", sources.test, test)):
        if not store.labeled:
            raise not_labeled(role, f" in {source}")
    return train, test


def _form(start: str) -> BackboneConfig:
    """Return the configuration of the network of a start; raise UserError for a file, which does not state it."""
    if is_file(start):
        raise UserError(
            f"'{start}' is a file of weights, which does not state its network: give a run, an encoder, an export or "
            "timm:NAME",
            code="start-without-network",
        )
    return start_form(start)


def _check_processes(training: TrainConfig) -> None:
    """Raise UserError for several processes, of which one would have to measure."""
    if training.num_processes > 1:
        raise UserError(
            f"a fine-tuning runs in one process, not {training.num_processes}: take devices 1, or `limbeck pretrain "
            "--method classifier --from START`",
            code="one-process",
        )


def _train(request: RunRequest, run: Path) -> Path:
    """Start the run, or continue it if the folder has the same one."""
    if not (run / CONFIG).is_file():
        return start_run(request, run)
    if read_config(run) != resolve_run(request).cfg:
        raise UserError(
            f"'{run}' contains another run: choose another folder with --out, or repeat the command that began it",
            code="run-exists",
        )
    return resume(run)


def _measure(
    run: Path, test: Store, labels: Labels, frozen: float, rows: int, start: str, embed: EmbedConfig
) -> Finetuned:
    """Return the accuracy of the trained classifier, and record it in its description."""
    classifier, network = load_classifier(run), load_encoder(run / ENCODER)
    features = _features(network, network.last, test, embed)
    accuracy = (classifier.head(features).argmax(dim=1) == labels.test).double().mean().item()
    count = len(labels.test)
    stderr = standard_error(accuracy, count)
    write_classifier(run, replace(classifier.about, accuracy=accuracy, stderr=stderr, held_out=count), classifier.head)
    return Finetuned(
        run=str(run),
        start=start,
        labels=rows,
        classes=labels.classes,
        test_images=count,
        accuracy=accuracy,
        stderr=stderr,
        frozen=frozen,
        frozen_stderr=standard_error(frozen, count),
    )


def _frozen_accuracy(
    network: FrozenEncoder,
    depth: int,
    train: Store,
    test: Store,
    rows: NDArray[np.int64],
    labels: Labels,
    embed: EmbedConfig,
) -> float:
    """Return the accuracy of a logistic regression on frozen features, as in the evaluation."""
    chosen = torch.from_numpy(rows)
    features = {depth: _features(network, depth, train, embed)[chosen]}
    heads = fit_heads(LogisticProbe(), features, labels.train[chosen], labels.classes, torch.device("cpu"))
    return heads.accuracy(
        {depth: _features(network, depth, test, embed)}, labels.test, torch.ones(len(labels.test))
    ).item()


def _features(network: FrozenEncoder, depth: int, store: Store, embed: EmbedConfig) -> Tensor:
    return torch.from_numpy(np.array(embed_source(store, network, depths=[depth], cfg=embed).features[depth]))
