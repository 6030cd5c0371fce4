"""A classifier in a folder: its network in timm's format, the head, the labels, and what it is worth."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from limbeck.classification.heads import Head, HeadName, NearestNeighbors
from limbeck.classification.linear import LinearClassifier
from limbeck.classification.space import Space
from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.run_folder import ENCODER
from limbeck.core.text import plural

DESCRIPTION, HEAD, LABELS, README = "classifier.json", "head.safetensors", "labels.txt", "README.md"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class About:
    """Contents of classifier.json."""

    version: int = VERSION
    head: HeadName | Literal["trained"]
    """How it was fitted; trained: by gradient descent, with the network or alone."""
    label_names: tuple[str, ...]
    network: str
    """Its name; of a folder the last part."""
    depth: int
    dim: int
    """Width of the features."""
    rows: int
    """Images with a label."""
    rows_per_class: tuple[int, ...]
    depth_accuracies: dict[str, float]
    """Leave-one-out accuracy of ridge regression by depth."""
    temperature: float
    threshold: float
    accuracy: float | None
    stderr: float | None
    log_loss: float | None
    held_out: int
    seed: int

    def sentences(self) -> list[str]:
        """Describe the classifier: its kind, images, depth and accuracy."""
        tried = "" if len(self.depth_accuracies) < 2 else f", the best of {len(self.depth_accuracies)} depths"
        return [
            f"{self.head} on depth {self.depth}{tried}; {self.rows:,} images of {len(self.label_names)} classes",
            f"accuracy: {self.quality()}",
        ]

    def quality(self) -> str:
        """Return the accuracy with its standard error, or why there is none."""
        if self.accuracy is None:
            return "not measured yet" if self.head == "trained" else "not measured, because every class has one image"
        return f"{self.accuracy:.1%} ± {self.stderr:.1%} of {plural(self.held_out, 'image')} that it was not fitted to"


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A head for the features of the network in `folder`/encoder."""

    folder: Path
    about: About
    head: Head
    """From features [N D] to logits [N classes]."""

    def probabilities(self, features: Tensor) -> Tensor:
        """Return calibrated probabilities [N classes] of features [N D], float32."""
        return (self.head(features) / self.about.temperature).softmax(dim=1)


def write_classifier(folder: Path, about: About, head: Head) -> None:
    """Write everything but the network into `folder`."""
    parts = head._asdict() | (space._asdict() if isinstance(head, NearestNeighbors) and (space := head.space) else {})
    tensors = {key: value for key, value in parts.items() if isinstance(value, Tensor)}
    (folder / HEAD).write_bytes(save({key: value.contiguous() for key, value in tensors.items()}))
    (folder / LABELS).write_text("".join(f"{name}\n" for name in about.label_names), encoding="utf-8")
    (folder / README).write_text(_readme(about), encoding="utf-8")
    write_json(folder / DESCRIPTION, to_json(asdict(about)))


def is_classifier(folder: Path) -> bool:
    """Return whether a folder holds a classifier."""
    return (folder / DESCRIPTION).is_file()


def load_classifier(folder: Path) -> Classifier:
    """Read the head of a classifier.

    Raises:
        UserError: the folder is no classifier, is one of another version, or is damaged.
    """
    if not is_classifier(folder) or not (folder / ENCODER).is_dir():
        raise UserError(
            f"'{folder}' is no classifier: it has no {DESCRIPTION} and {ENCODER}/, which `limbeck classify` writes",
            code="not-a-classifier",
        )
    found = read_json(folder / DESCRIPTION, "fit it again with `limbeck classify`")
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise UserError(f"'{folder}' is a classifier of another version: fit it again", code="other-version")
    about = from_json(About, found, str(folder / DESCRIPTION))
    try:
        tensors = load_file(folder / HEAD)
        head: Head = (
            NearestNeighbors(
                tensors["bank"],
                tensors["labels"],
                len(about.label_names),
                Space(tensors["mean"], tensors["projection"]),
            )
            if about.head == "knn"
            else LinearClassifier(tensors["weight"], tensors["bias"])
        )
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"'{folder / HEAD}' is damaged: fit the classifier again", code="damaged-classifier") from error
    return Classifier(folder=folder, about=about, head=head)


def linear_part(classifier: Classifier) -> torch.nn.Linear:
    """Return the head with its temperature as a layer, whose outputs are calibrated logits.

    Raises:
        UserError: the head is not linear.
    """
    if not isinstance(classifier.head, LinearClassifier):
        raise UserError(
            f"the head of '{classifier.folder}' is {classifier.about.head}, which is no layer of a network: fit one "
            "with --head ridge, logistic or centroid to export it",
            code="classifier-not-linear",
        )
    weight, bias = (part / classifier.about.temperature for part in classifier.head)
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)


def _readme(about: About) -> str:
    return (
        f"# A classifier of {len(about.label_names)} classes\n\n"
        f"Head: {about.head}, on {about.dim} features of {about.network} at depth {about.depth}, fitted to "
        f"{about.rows:,} images. Accuracy: {about.quality()}.\n\n"
        "```bash\nlimbeck predict . PHOTOS\nlimbeck export . OUT --format onnx\n```\n\n"
        f"`{ENCODER}/` is the network in timm's format, `{HEAD}` the head, `{LABELS}` a class per line in the order of "
        f"the logits, `{DESCRIPTION}` everything else. Written by Limbeck.\n"
    )
