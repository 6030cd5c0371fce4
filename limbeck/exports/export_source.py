"""Load the network to export: the encoder of a run, or that of a classifier with its head."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from limbeck.classification.saved import Classifier, is_classifier, linear_part, load_classifier
from limbeck.core.errors import UserError, one_line
from limbeck.exports.networks import FoldedPreprocessing
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing, load, load_preprocessing
from limbeck.models.pretrained import resized
from limbeck.models.surgery import timm_defaults


class ExportSource(NamedTuple):
    """A trained network, in eval mode, and what belongs to it."""

    run: Path
    backbone: Backbone
    preprocessing: Preprocessing
    classifier: Classifier | None
    head: nn.Linear | None
    projection: nn.Linear | None
    network: nn.Module  # from images, as the file takes them, to what the file returns

    @property
    def dim(self) -> int:
        """Return the number of outputs."""
        last = self.head or self.projection
        return last.out_features if last else self.backbone.dim

    @property
    def output(self) -> str:
        """Return the kind of the outputs."""
        return "logits" if self.head else "features"

    def with_projection(self, layer: nn.Linear, fold: bool) -> "ExportSource":
        """Return it with a layer at the end; the preprocessing is inside where `fold` is set."""
        network = _assemble(self.backbone, layer, self.preprocessing, fold)
        return self._replace(projection=layer, network=network)


def load_source(run: Path, depth: int | None, fold: bool, image_size: int | None = None) -> ExportSource:
    """Load the network at `run`, cut at `depth`, with its preprocessing inside where `fold` is set.

    With an `image_size` in pixels, the network takes images of that size, and positions are resampled.

    Raises:
        UserError: there is no network; a classifier is asked for another depth than its own; weights are not finite; or
            the network cannot have the image size.
    """
    classifier = load_classifier(run) if is_classifier(run) else None
    if classifier and depth is not None:
        raise UserError(
            f"'{classifier.folder}' is a classifier of the features at depth {classifier.about.depth}: leave --depth "
            "out, or fit one at another depth",
            code="depth-of-a-classifier",
        )
    head = linear_part(classifier) if classifier else None
    backbone, preprocessing = load(run, depth).eval(), load_preprocessing(run)
    _check_finite(backbone, run)
    if image_size is not None and image_size != preprocessing.image_size:
        backbone, preprocessing = _at_size(backbone, image_size, run), replace(preprocessing, image_size=image_size)
    network = _assemble(backbone, head, preprocessing, fold)
    return ExportSource(run, backbone, preprocessing, classifier, head, None, network)


def _assemble(backbone: Backbone, last: nn.Linear | None, how: Preprocessing, fold: bool) -> nn.Module:
    """Return the network of a backbone with a layer after it, and its preprocessing inside where `fold` is set."""
    plain = nn.Sequential(OrderedDict(backbone=backbone.network, head=last)) if last else backbone.network
    return (FoldedPreprocessing(plain, how) if fold else plain).eval()


def _at_size(backbone: Backbone, size: int, run: Path) -> Backbone:
    """Return the backbone for images of another size, tried on one."""
    if size < 1:
        raise UserError(
            f"images of {size} pixels are none: choose an --image-size of 1 or more", code="image-size-too-small"
        )
    if timm_defaults(backbone.cfg.name).fixed_input_size:
        backbone = resized(backbone, size, str(run))
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"'{backbone.cfg.name}' takes no images of {size} pixels ({one_line(error):.160}): choose a larger image "
            "size",
            code="image-size-too-small",
        ) from error
    return backbone


def _check_finite(backbone: Backbone, run: Path) -> None:
    for name, value in backbone.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(
                f"the weights of '{run}' are not finite, in '{name}': train again, or export a checkpoint of before",
                code="weights-not-finite",
            )
