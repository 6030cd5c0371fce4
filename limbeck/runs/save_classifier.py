"""The classifier that a supervised run has trained, in its folder, which predict and export then take."""

from pathlib import Path

import numpy as np

from limbeck.classification.linear import LinearClassifier
from limbeck.classification.saved import About, write_classifier
from limbeck.core.portable_paths import portable_path
from limbeck.methods.base import Method
from limbeck.runs.resolve import RunSetup


def save_classifier(method: Method, setup: RunSetup, run: Path) -> None:
    """Write head, labels and description next to the encoder, if the method has trained a classifier."""
    layer = method.classifier_layer()
    if layer is None:
        return
    data, cfg = setup.data, setup.cfg
    rows = cfg.method.train_rows(data.labels)
    counts = np.bincount(data.labels if rows is None else data.labels[rows], minlength=len(data.label_names))
    about = About(
        head="trained",
        label_names=tuple(data.label_names),
        network=portable_path(cfg.start.name) if cfg.start else cfg.backbone.name,
        depth=method.encoder().taps[-1],
        dim=layer.in_features,
        rows=int(counts.sum()),
        rows_per_class=tuple(counts.tolist()),
        depth_accuracies={},
        temperature=1.0,
        threshold=0.0,
        accuracy=None,
        stderr=None,
        log_loss=None,
        held_out=0,
        seed=cfg.training.seed,
    )
    weight, bias = (tensor.detach().float().cpu() for tensor in (layer.weight, layer.bias))
    write_classifier(run, about, LinearClassifier(weight, bias))
