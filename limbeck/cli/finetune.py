"""`limbeck finetune`: train a classifier with trained weights."""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from limbeck.cli.arguments import FLATTENED, peek
from limbeck.cli.command import Command, Output
from limbeck.cli.labels import GROUP

if TYPE_CHECKING:
    from limbeck.train.config import OptimConfig

START = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|EXPORT|timm:NAME")]


def finetune_arguments(argv: Sequence[str]) -> type[Any]:
    """Return the arguments of `limbeck finetune`."""
    from limbeck.runs.finetune_recipe import FINETUNE_TRAINING
    from limbeck.train.config import OptimConfig, TrainConfig

    usual = _usual_optim(argv)

    @dataclass(frozen=True, kw_only=True)
    class FinetuneArgs:
        start: START
        """The trained weights: a run, an encoder, an export, a folder of timm, timm:NAME."""
        train: str
        """Labeled images to train on: what `limbeck store` takes, or a store."""
        test: str
        """Labeled images to score, with the same label names."""
        out: str | None = None
        """Folder of the run; by default runs/classifier-SOURCE. The same command again continues it."""
        labels: float = 1.0
        """Share of the labeled images of every class to train on; 0.01 is inside 0.1."""
        subset_seed: int = 0
        """Seed of that choice."""
        layers: Literal["all", "head"] = "all"
        """all: train the network with the classifier; head: the classifier alone."""
        depth: int | None = None
        """Blocks or stages to keep; by default all."""
        label_smoothing: float = 0.0
        """Share of a label that is spread over all classes."""
        training: Annotated[TrainConfig, FLATTENED] = field(default_factory=lambda: FINETUNE_TRAINING)
        optim: OptimConfig = field(default_factory=lambda: usual)
        unchanged: ClassVar[OptimConfig] = usual
        """The optimizer without an option; the learning rate of the recipe then drops twice."""

    return FinetuneArgs


def _usual_optim(argv: Sequence[str]) -> "OptimConfig":
    """Return the optimizer of the recipe with a cosine, as a start for options that change it."""
    from limbeck.runs.finetune_recipe import EPOCHS, finetune_optim

    labels = peek(argv, "--labels")
    try:
        share = float(labels or 1)
    except ValueError:  # the value is checked later
        share = 1.0
    return dataclasses.replace(finetune_optim(share, EPOCHS), milestone_epochs=None)


def _finetune(args: Any) -> Output:
    from limbeck.api.finetune import finetune

    names = ("labels", "layers", "depth", "training", "subset_seed", "label_smoothing")
    options = {name: getattr(args, name) for name in names}
    options["optim"] = None if args.optim == args.unchanged else args.optim
    found = finetune(args.start, args.train, args.test, args.out, **options)
    return Output(
        dataclasses.asdict(found),
        [found.sentence(), found.run],
        next_commands=[
            shlex.join(["limbeck", "predict", found.run, "PHOTOS"]),
            shlex.join(["limbeck", "export", found.run, f"{found.run.rstrip('/')}-onnx", "--format", "onnx"]),
        ],
    )


FINETUNE = Command(
    GROUP,
    """Train a classifier together with the weights of a trained network.
  All layers are trained, or the head alone, on all labels or a share of them; the
  accuracy of frozen features with the same labels stands beside the result. The
  run is a classifier: predict uses it, and export makes one file of it.

Examples:
  limbeck finetune runs/a --train labeled/train --test labeled/test
  limbeck finetune runs/a --train labeled/train --test labeled/test --labels 0.01 --out runs/few
  limbeck finetune timm:resnet18 --train labeled/train --test labeled/test --layers head --depth 3""",
    finetune_arguments,
    _finetune,
    (
        "--train",
        "--test",
        "--out",
        "--labels",
        "--layers",
        "--depth",
        "--epochs",
        "--batch-size",
        "--optim.lr",
        "--seed",
    ),
)
