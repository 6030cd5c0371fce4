"""Fine-tuning from one call."""

from os import PathLike
from typing import Any, Literal

from limbeck.api.options import with_options
from limbeck.data.sources.open import Source
from limbeck.methods import ClassifierConfig
from limbeck.runs.finetuning import Finetuned
from limbeck.runs.finetuning import finetune as run_finetune
from limbeck.runs.folder import default_folder
from limbeck.train.config import OptimConfig, TrainConfig


def finetune(
    start: str | PathLike[str],
    train: Source,
    test: Source,
    out: str | PathLike[str] | None = None,
    *,
    labels: float = 1.0,
    layers: Literal["all", "head"] = "all",
    depth: int | None = None,
    optim: OptimConfig | None = None,
    training: TrainConfig | None = None,
    **options: Any,
) -> Finetuned:
    """Train a classifier with trained weights, beside frozen features: `limbeck.finetune("runs/a", "train", "test")`.

    The run in `out` is a classifier, too: `limbeck.predict` and `limbeck.export` take it. The same call again continues
    a run that was stopped.

    Args:
        start: a run, an encoder, an export, a folder of timm's, or "timm:NAME".
        train: labeled images to train on.
        test: labeled images to score.
        out: folder of the run; by default runs/classifier-SOURCE.
        labels: share of the labeled images of every class to train on; a smaller one is inside a larger one.
        layers: all, or the classifier (head) alone.
        depth: blocks or stages of the network to keep; by default all.
        optim: by default SwAV's recipe for the share of the labels (docs/finetuning.md).
        training: how long to train, and on which devices; by default 20 epochs, and 500 steps at least.
        **options: further fields of `limbeck.methods.ClassifierConfig`: `label_smoothing`, `subset_seed`, `views`.

    Raises:
        UserError: labels are missing or do not match, the start cannot be loaded, or `out` contains another run.
    """
    known = ("labels", "layers", "depth", "optim", "training", "out")
    method = with_options(ClassifierConfig(label_share=labels, layers=layers), options, known=known)
    folder = default_folder(method.name, train) if out is None else out
    return run_finetune(
        start, train, folder, method=method, test_data=test, depth=depth, optim=optim, training=training
    )
