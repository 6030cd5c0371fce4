"""A modality: everything that a run needs to know about one kind of data, such as images or series.

Methods, losses and the training loop work with `Encoder`, `Dataset` and `Batch` and do not depend on it.
"""

import shlex
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from limbeck.core.config import EncoderConfig, Json, to_json
from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, write_json
from limbeck.core.resolved import Resolved

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from torch import Tensor, nn

    from limbeck.core.types import Dataset, Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.data.sources.open import Source
    from limbeck.data.sources.selection import Selection
    from limbeck.data.store.store import Store
    from limbeck.evaluation.adaptation import Adaptation
    from limbeck.evaluation.comparison import ComparedWith
    from limbeck.evaluation.config import EvaluateConfig
    from limbeck.evaluation.results import EvaluationResult
    from limbeck.methods import MethodConfig
    from limbeck.models.config import StartConfig
    from limbeck.models.start import LoadedStart
    from limbeck.teachers.config import TeacherConfig
    from limbeck.teachers.frozen import LoadedTeacher
    from limbeck.teachers.setup import ImageTargets, TeacherContext
    from limbeck.train.eval_callback import EvalCallback
    from limbeck.train.loading import LoaderFactory

Config = TypeVar("Config", bound=EncoderConfig)
Data = TypeVar("Data", bound="Dataset")


class Modality(ABC, Generic[Config, Data]):
    """One kind of data: its sources, its encoders, its views and its loader.

    A module of `limbeck.modalities` that has an instance in its attribute `MODALITY` is found by `limbeck pretrain`.
    """

    name: ClassVar[str]
    nouns: ClassVar[tuple[str, str]]
    """Nouns for one row of the data, and for several."""
    takes_teachers: ClassVar[bool] = False
    """Whether an encoder can be distilled from a frozen teacher."""
    takes_filters: ClassVar[bool] = False
    """Whether patch filters can be that teacher, as in the recipe for short runs."""
    evaluated: ClassVar[bool] = False
    """Whether `limbeck evaluate` measures an encoder."""
    measured_as: ClassVar[tuple[str, ...]] = ("features",)
    """What the settings of an evaluation that it takes are for, as their fields state it (`EvaluateConfig`)."""
    adapted: ClassVar[bool] = False
    """Whether `limbeck adapt` goes on from trained weights."""
    takes_others: ClassVar[bool] = False
    """Whether it measures other networks of such data beside it."""
    export_formats: ClassVar[tuple[str, ...]] = ()
    """Formats of `limbeck export`, the usual one first."""
    labeled: ClassVar[tuple[str, str]] = ("LABELED/train", "LABELED/test")
    """What data to fit on and to score are called in a command that is proposed."""

    def evaluate_commands(self, run: str) -> list[str]:
        """Return the `limbeck evaluate` that one may type for a run; none where an encoder is not measured."""
        train, test = self.labeled
        return [shlex.join(["limbeck", "evaluate", run, "--train", train, "--test", test])] if self.evaluated else []

    @property
    @abstractmethod
    def loader(self) -> "LoaderFactory":
        """Return the loader of the batches; random numbers are a function of (seed, epoch, view, row)."""

    @abstractmethod
    def recognizes(self, source: object) -> bool:
        """Return whether `source` (a path, a Python object) is data of this kind."""

    def takes(self, source: object) -> bool:
        """Return whether `source` can be data of this kind where a method asks for it."""
        return self.recognizes(source)

    @abstractmethod
    def encoder_config(self, name: str) -> type[Config] | None:
        """Return the dataclass that configures the encoder `name`, or None if that is not an encoder for such data."""

    @abstractmethod
    def default_encoder(self) -> Config:
        """Return the encoder of a run that names none."""

    def check_encoder(self, cfg: Config) -> tuple[int, ...]:
        """Return the depths of an encoder, none where the data decides; UserError if there is no such encoder.

        It is called before any data is read.
        """
        return ()

    def known_classes(self, source: Any, selection: "Selection") -> int | None:
        """Return the number of labels in a source, 0 unless all have one; None where only reading it would tell."""
        return None

    def known_count(self, source: Any, selection: "Selection") -> int | None:
        """Return the number of samples in a source; None where it cannot be had soon."""
        return None

    def small_encoder(self, data: Data | None = None, *, joined: bool = False) -> Resolved[Config]:
        """Return the encoder of a run that names none on a machine without a GPU, and what is given up for it.

        Without `data` only its name counts. With `joined`, features that need no training are a part of its own.
        """
        return Resolved(self.default_encoder(), [])

    def default_student(self) -> Config:
        """Return the encoder of a distillation that names none."""
        return self.default_encoder()

    def small_student(self, data: Data | None = None, *, joined: bool = False) -> Resolved[Config]:
        """Return the same on a machine without a GPU, and what is given up for it; arguments as of `small_encoder`."""
        return Resolved(self.default_student(), [])

    def start_encoder(self, cfg: "StartConfig") -> Config:
        """Return the encoder that the weights to start from are of, as far as it is known before they are read."""
        return self.default_encoder()

    def load_start(self, cfg: "StartConfig", encoder: Config | None) -> "LoadedStart":
        """Return trained weights to start from, for their own encoder or the one that is given."""
        raise UserError(f"encoders of {self.name} cannot start from '{cfg.name}': leave it out", code="no-starts")

    def fit_start(self, cfg: Config, data: Data) -> Resolved[Config]:
        """Return the network of a start for the data of the run; UserError if they do not fit together."""
        return Resolved(cfg, [])

    @abstractmethod
    def open(
        self,
        source: Any,
        *,
        store_size: int | None,
        allow_bad: float,
        selection: "Selection",
        encoder: Config | None = None,
    ) -> Resolved[Data]:
        """Return the data of a source, without what is left out by name, as an encoder of the user's is to get them."""

    def selection(self, data: Data) -> "Selection":
        """Return the patterns by which images of the source were left out."""
        from limbeck.data.sources.selection import Selection

        return Selection()

    def check(self, source: Any) -> list[str]:
        """Return sentences on what a source holds and what in it may be a mistake; images have `limbeck.check`."""
        raise UserError(f"'{source}' holds {self.nouns[1]}, which cannot be checked", code="not-images")

    def usual_steps(self, data: Data) -> int | None:
        """Return the optimizer steps of a run that names no epochs; None: by the number of rows."""
        return None

    @abstractmethod
    def reopen(self, path: str, encoder: Config) -> Data:
        """Return the data of an earlier run, which had such an encoder, from their `path`."""

    def resolve_encoder(self, cfg: Config, data: Data) -> Resolved[Config]:
        """Return the configuration with what depends on the data filled in."""
        return Resolved(cfg, [])

    def resolve_for_views(self, cfg: Config, views: tuple[Any, ...]) -> Resolved[Config]:
        """Return the configuration of an encoder that accepts the student's views; UserError if there is none."""
        return Resolved(cfg, [])

    @abstractmethod
    def build_encoder(self, cfg: Config) -> "Encoder":
        """Return the encoder with random weights from torch's global generator."""

    def load_encoder(self, path: "str | PathLike[str]", depth: int | None = None) -> "Encoder":
        """Return the trained encoder of a run or a folder, cut at `depth` if given; UserError if there is none."""
        raise UserError(f"'{path}' has an encoder of {self.name}, which cannot be loaded", code="not-images")

    def completion(
        self, cfg: Config, data: Data, targets: "Callable[[], ImageTargets | None] | None" = None
    ) -> "Callable[[Encoder], Encoder]":
        """Return the function that turns the trained encoder into that of the run, fitted before the training.

        `targets` gives the vectors of a teacher, which may be computed only later.
        """
        return lambda encoder: encoder

    def with_named_views(self, method: "MethodConfig") -> "MethodConfig":
        """Return the method with the name of the preset of views that it gets on such data; UserError for another."""
        return method

    @abstractmethod
    def make_views(self, method: "MethodConfig", cfg: Config) -> tuple[Any, ...]:
        """Return the views that a method compares, in the terms of the loader."""

    def with_small_views(self, views: tuple[Any, ...], scale: float, cfg: Config) -> tuple[Any, ...]:
        """Return the views with smaller ones for the first steps; `scale` is the share of the side that they have."""
        raise UserError(
            f"progressive resizing is for images, and not for {self.name}: leave --progressive-resizing out",
            code="not-images",
        )

    def check_patch_drop(self, cfg: Config, method: "MethodConfig") -> None:
        """Raise UserError unless the trained network may leave out patches under a method."""
        raise UserError(
            f"patches are dropped by ViTs for images, and not for {self.name}: leave --patch-drop-rate out",
            code="not-images",
        )

    def describe_views(self, method: "MethodConfig") -> str:
        """Return the part of the description of a run that names the views, such as ", views 'simclr'"."""
        return ""

    def load_teacher(
        self, cfg: "TeacherConfig", module: "nn.Module | None", data: Data | None, start: "LoadedStart | None"
    ) -> "LoadedTeacher":
        """Return a frozen teacher; only kinds of data with teachers are asked.

        Args:
            cfg: which one.
            module: the network itself, if it is a module of the user's.
            data: those of the run, for a teacher that is fitted to them; None before they are read.
            start: the weights that the run starts from.
        """
        raise NotImplementedError

    def example(self, cfg: Config, data: Data) -> "Tensor":
        """Return zeros of the shape that an encoder takes for one row; only kinds of data with teachers are asked."""
        raise NotImplementedError

    def make_eval_callback(self, data: Data, cfg: Config, teacher: "TeacherContext | None") -> "EvalCallback | None":
        """Return the callback that evaluates the encoder during training, if there is one."""
        return None

    def compare_with_start(
        self, start: "Encoder", adapted: "Encoder", data: Data, cfg: Config, teacher: "TeacherContext"
    ) -> "Adaptation":
        """Compare an encoder with the one that it was adapted from; only kinds of data with teachers are asked."""
        raise NotImplementedError

    def evaluate(
        self, run: Path, untrained: "Encoder", train: Any, test: Any, cfg: "EvaluateConfig", compared: "ComparedWith"
    ) -> "EvaluationResult":
        """Measure every layer of the encoder of a run, next to the untrained one; images have `runs.api.evaluate_run`.

        Args:
            run: folder of the run.
            untrained: its network at the random initialization.
            train: source of labeled data to fit on; where data are images in a store, that store.
            test: likewise, to score.
            cfg: settings of the evaluation.
            compared: what else to compare with, where `takes_others`.
        """
        raise UserError(f"'{run}' has an encoder of {self.name}, which cannot be evaluated", code="not-images")

    def save_encoder(
        self, encoder: "Encoder", folder: Path, data: Data, cfg: Config, provenance: dict[str, Json]
    ) -> None:
        """Write the trained encoder into `folder`: its weights, its configuration and where it comes from."""
        write_encoder(encoder, folder, self.name, provenance)


def write_encoder(encoder: "Encoder", folder: Path, modality: str, provenance: Json) -> None:
    """Write the weights and the configuration of an encoder of data other than images."""
    from safetensors.torch import save

    make_folder(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    with atomic_write(folder / "model.safetensors") as path:
        path.write_bytes(save(weights))
    written = {"modality": modality, "encoder": to_json(encoder.cfg), "provenance": provenance}
    write_json(folder / "config.json", {"limbeck": written})


class StoreModality(Modality[Config, "Store"]):
    """A modality whose data are images in a store."""

    @property
    def loader(self) -> "LoaderFactory":
        """Batches of augmented views of a store."""
        from limbeck.data.loader import Loader

        return Loader

    def open(
        self,
        source: "Source",
        *,
        store_size: int | None,
        allow_bad: float,
        selection: "Selection",
        encoder: Config | None = None,
    ) -> "Resolved[Store]":
        """Return the store of a source, which is built first if it is not one."""
        from limbeck.data.store.open import open_store

        store = open_store(source, None, store_size, allow_bad, selection.exclude, selection.only, selection.max_images)
        return Resolved(store, [store.summary()])

    def selection(self, data: "Store") -> "Selection":
        """Return what was left out of the store by name."""
        from limbeck.data.sources.selection import Selection

        return Selection.by(data.exclude, data.only, data.max_images)

    def reopen(self, path: str, encoder: Config) -> "Store":
        """Open a store."""
        from limbeck.data.store.store import Store

        return Store.open(path)


def normalized(
    views: "tuple[ViewSpec, ...]", mean: tuple[float, float, float], std: tuple[float, float, float]
) -> "tuple[ViewSpec, ...]":
    """Return views whose pixels are normalized for a network."""
    return tuple(replace(view, augmentation=replace(view.augmentation, mean=mean, std=std)) for view in views)
