"""A classifier from a network and some labels, and the classes of other images."""

from os import PathLike
from pathlib import Path
from typing import Any

from limbeck.api.options import with_options
from limbeck.classification.config import ClassifyConfig
from limbeck.classification.saved import Classifier
from limbeck.classification.source import Predictions, check_folder, check_predictions, classify_images, predict_images
from limbeck.core.rank import is_rank0
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig


def classify(
    images: Source | Store,
    encoder: str | PathLike[str],
    out: str | PathLike[str],
    *,
    labels: str | PathLike[str] | None = None,
    embedding: EmbedConfig | None = None,
    **options: Any,
) -> Classifier:
    """Fit a classifier to the images with a label, and write it to a new folder together with its network.

    Args:
        images: a folder with a sub-folder per class, files, a store, ...
        encoder: a run, an encoder, a timm export, "timm:NAME", a folder of timm's.
        out: the folder, for `limbeck.predict` and `limbeck.export`.
        labels: a CSV file with the columns path and label, in the place of the labels of `images`.
        embedding: how to compute the features.
        **options: fields of `limbeck.classification.config.ClassifyConfig`: `head`, `depth`, `seed`.

    Raises:
        UserError: fewer than two classes have a label, labels collide, or `out` is not empty.
    """
    cfg = with_options(ClassifyConfig(), options, known=("labels", "embedding"))
    check_folder(Path(out))
    return classify_images(images, encoder, Path(out), cfg, labels=labels, embed=embedding)


def predict(
    classifier: str | PathLike[str],
    images: Source | Store,
    out: str | PathLike[str] | None = None,
    *,
    threshold: float | None = None,
    embedding: EmbedConfig | None = None,
) -> Predictions:
    """Return the class and its probability of every image, as a classifier of `limbeck.classify` finds them.

    Args:
        classifier: its folder.
        images: a folder, files, a store, ...
        out: also write path, label and probability to this CSV file.
        threshold: probability below which an image is of none of the classes; by default that of the classifier.
        embedding: how to compute the features.

    Raises:
        UserError: the folder is no classifier, there are no images, or the threshold is no probability.
    """
    if out is not None:
        check_predictions(Path(out))
    found = predict_images(classifier, images, threshold=threshold, embed=embedding)
    if out is not None and is_rank0():
        found.write(Path(out))
    return found
