"""Fit a classifier to the labeled images of a source and write it; classify the images of another one."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.classification.config import ClassifyConfig
from limbeck.classification.fit import Fitted, fit_classifier
from limbeck.classification.heads import of_features
from limbeck.classification.saved import About, Classifier, load_classifier, write_classifier
from limbeck.core.disk import check_writable
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_folder, atomic_write, check_ours
from limbeck.core.rank import is_rank0
from limbeck.core.run_folder import ENCODER
from limbeck.core.text import csv_cell, first_names, plural
from limbeck.data.label_list import check_label_names, read_label_list
from limbeck.data.sources.labels import class_name
from limbeck.data.sources.open import Source
from limbeck.data.store.known_labels import of_one_class
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import BackboneEncoder, load_encoder
from limbeck.embeddings.source import Embedded, embed_source, open_images
from limbeck.models.encoder_io import Preprocessing, save_encoder

logger = logging.getLogger(__name__)
COLUMNS = ("path", "label", "probability")
BLOCK = 8192


def classify_images(
    source: Source | Store,
    encoder: str | PathLike[str],
    out: Path,
    cfg: ClassifyConfig,
    *,
    labels: str | PathLike[str] | None = None,
    embed: EmbedConfig | None = None,
) -> Classifier:
    """Fit a classifier to the images of a source that have a label, and write it to the new folder `out`.

    Args:
        source: images with class folders or other labels, or with those of the file `labels`.
        encoder: a run, an encoder, a timm export, "timm:NAME" ...; it becomes a part of the classifier.
        out: the folder.
        cfg: the settings.
        labels: a CSV file with the columns path and label, in the place of the labels of the source.
        embed: how to compute the features.

    Raises:
        UserError: fewer than two classes have a label, `out` is not empty, or the network has no depths.
    """
    embed = embed or EmbedConfig()
    network = _network(encoder, embed.precision)
    depths = None if cfg.depth is None else [cfg.depth]
    network.check_depths(depths or [])
    store = open_images(source, network, embed)
    numbers, names = _labels(store, labels, source)
    found = embed_source(store, network, depths=depths, cfg=embed)
    fitted = fit_classifier(found.features, numbers, len(names), cfg.head, cfg.seed)
    about = _about(found, fitted, numbers, names, cfg)
    head = of_features(fitted.head, fitted.space)
    if is_rank0():
        with atomic_folder(out.absolute()) as folder:
            cut = network.backbone.cut(fitted.depth)
            provenance = {"run": {"start": {"name": network.label, "license": network.license}}}
            save_encoder(cut, folder / ENCODER, _preprocessing(found), provenance)
            write_classifier(folder, about, head)
    return Classifier(folder=out, about=about, head=head)


def _network(encoder: str | PathLike[str], precision: Literal["auto", "bf16", "fp32"]) -> BackboneEncoder:
    network = load_encoder(encoder, precision)
    if not isinstance(network, BackboneEncoder):
        raise UserError(
            f"'{network.name}' cannot become a part of a classifier: give a run, an encoder, an export for timm or "
            "timm:NAME",
            code="no-backbone",
        )
    return network


def _labels(store: Store, file: str | PathLike[str] | None, source: object) -> tuple[NDArray[np.int64], list[str]]:
    """Return the class [N] of every image, -1 where there is none, and the names of the classes that have images."""
    if file is not None:
        listed = read_label_list(Path(file), store)
        labels, names, where = listed.labels, listed.names, f"'{file}'"
    else:
        labels, where = store.labels, f"'{source}'" if isinstance(source, str | Path) else "the source"
        used = np.unique(labels[labels >= 0])
        names = [class_name(store.label_names[label]) for label in used]
        labels = np.where(labels >= 0, np.searchsorted(used, labels), -1)
        check_label_names(where, names)
    if len(names) < 2:
        raise UserError(
            f"{where} has {'one class' if names else 'no labels'}{f' ({names[0]})' if names else ''}, and a classifier "
            "needs two: put each into its own sub-folder, or give --labels ROWS.csv with the columns path, label",
            code="one-class" if names else "images-not-labeled",
        )
    single = [name for number, name in enumerate(names) if (labels == number).sum() == 1]
    if single:
        logger.warning("one image only of %s: it is never held out", first_names(single))
    if unlabeled := int((labels < 0).sum()):
        logger.info(
            "%s without a label %s not fitted to", plural(unlabeled, "image"), "is" if unlabeled == 1 else "are"
        )
    return labels, names


def _about(found: Embedded, fitted: Fitted, labels: NDArray[np.int64], names: list[str], cfg: ClassifyConfig) -> About:
    return About(
        head=cfg.head,
        label_names=tuple(names),
        network=found.encoder.label,
        depth=fitted.depth,
        dim=found.encoder.dims[fitted.depth],
        rows=int((labels >= 0).sum()),
        rows_per_class=tuple(np.bincount(labels[labels >= 0], minlength=len(names)).tolist()),
        depth_accuracies={str(depth): accuracy for depth, accuracy in fitted.accuracies.items()},
        seed=cfg.seed,
        **fitted.calibration._asdict(),
    )


def _preprocessing(found: Embedded) -> Preprocessing:
    network = found.encoder
    return Preprocessing(
        image_size=network.image_size,
        store_size=network.store_size or found.store.size,
        mean=network.mean,
        std=network.std,
        interpolation=network.interpolation,
    )


def check_folder(out: Path) -> None:
    """Raise UserError unless a new folder can be written at `out`."""
    check_writable(out.absolute().parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"'{out}' already exists and is not an empty folder; choose another with --out", code="out-not-empty"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The classes of images."""

    paths: list[str]
    labels: list[str]
    """The most probable class, empty where its probability is below the threshold."""
    probabilities: list[float]
    """Of the most probable class."""
    threshold: float
    accuracy: float | None
    """Share of the images with a label that get it, where the source has labels that the classifier knows."""
    stderr: float | None
    scored: int
    """Images that `accuracy` is of."""

    def counts(self) -> dict[str, int]:
        """Return the number of images of each class, the most frequent first; '' is none of them."""
        return dict(Counter(self.labels).most_common())

    def write(self, out: Path) -> None:
        """Write path, label and probability of every image."""
        with atomic_write(out) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for path, label, probability in zip(self.paths, self.labels, self.probabilities, strict=True):
                writer.writerow([csv_cell(path), csv_cell(label), f"{probability:.4f}"])


def check_predictions(out: Path) -> None:
    """Raise UserError unless predictions can be written to `out`, where others of Limbeck's may be."""
    check_writable(out.absolute().parent)
    check_ours(out, ",".join(COLUMNS).encode(), "list of predictions")


def predict_images(
    classifier: str | PathLike[str],
    source: Source | Store,
    *,
    threshold: float | None = None,
    embed: EmbedConfig | None = None,
) -> Predictions:
    """Classify the images of a source.

    Args:
        classifier: a folder that `classify_images` wrote.
        source: the images.
        threshold: smallest probability of a class; by default that of the classifier, 0 gives every image a class.
        embed: how to compute the features.

    Raises:
        UserError: as `load_classifier` and `embed_source`; or the threshold is no probability.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"threshold is {threshold}: it must be 0 to 1", code="value-out-of-range")
    folder = Path(classifier)
    fitted = load_classifier(folder)
    network = load_encoder(folder / ENCODER, (embed or EmbedConfig()).precision)
    found = embed_source(source, network, depths=[network.last], cfg=embed)
    blocks = np.split(found.features[network.last], range(BLOCK, len(found.labels), BLOCK))
    parts = [fitted.probabilities(torch.from_numpy(np.array(block))).max(dim=1) for block in blocks]
    best = torch.cat([part.values for part in parts]).numpy()
    numbers = torch.cat([part.indices for part in parts]).numpy()
    least = fitted.about.threshold if threshold is None else threshold
    names = np.array(fitted.about.label_names, dtype=object)[numbers]
    accuracy, stderr, scored = _score(found, names, fitted.about.label_names)
    return Predictions(
        paths=found.paths,
        labels=np.where(best >= least, names, "").tolist(),
        probabilities=best.tolist(),
        threshold=least,
        accuracy=accuracy,
        stderr=stderr,
        scored=scored,
    )


def _score(
    found: Embedded, predicted: NDArray[np.object_], classes: Sequence[str]
) -> tuple[float | None, float | None, int]:
    """Return accuracy, its standard error and the number of images with a label, where every label is a class."""
    store = of_one_class(found.store, classes)
    rows = np.flatnonzero(store.labels >= 0)
    if not len(rows):
        return None, None, 0
    truth = [class_name(store.label_names[label]) for label in store.labels[rows]]
    accuracy = float(np.mean([name == expected for name, expected in zip(predicted[rows], truth, strict=True)]))
    return accuracy, float(np.sqrt(accuracy * (1 - accuracy) / len(rows))), len(rows)
