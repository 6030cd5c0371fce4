"""Series: .ts, .tsv, .npz and CSV files, dilated convolutions, random crops or hidden steps."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.text import plural
from limbeck.modalities.base import Modality
from limbeck.series.config import STUDENT_DIM, STUDENT_HIDDEN, SeriesConfig, fit_start, fit_to_series
from limbeck.series.recognize import is_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from pathlib import Path

    from torch import Tensor, nn

    from limbeck.core.types import Encoder
    from limbeck.data.sources.selection import Selection
    from limbeck.evaluation.comparison import ComparedWith
    from limbeck.evaluation.config import EvaluateConfig
    from limbeck.evaluation.results import EvaluationResult
    from limbeck.methods import MethodConfig
    from limbeck.models.config import StartConfig
    from limbeck.models.start import LoadedStart
    from limbeck.series.data import SeriesData
    from limbeck.series.network import DilatedEncoder
    from limbeck.series.views import SeriesView
    from limbeck.teachers.config import TeacherConfig
    from limbeck.teachers.frozen import LoadedTeacher
    from limbeck.teachers.setup import ImageTargets, TeacherContext
    from limbeck.train.eval_callback import EvalCallback
    from limbeck.train.loading import LoaderFactory

FEW_VALUES, FEW_STEPS, MANY_STEPS = 100_000, 200, 600
"""Optimizer steps of a run without epochs: fewer up to so many values (yuezhihan/ts2vec b0088e1)."""
IMAGE_SIZE = 32  # pixels: how many views a method has does not depend on it


class Series(Modality[SeriesConfig, "SeriesData"]):
    """Series, read into memory. What a method needs is imported in it."""

    name = "series"
    nouns = ("series", "series")
    takes_teachers = evaluated = takes_others = True
    measured_as = ("features", "series")
    export_formats = ("onnx", "torch")
    labeled = ("LABELED_TRAIN.ts", "LABELED_TEST.ts")

    @property
    def loader(self) -> "LoaderFactory":
        """Batches of random views of series."""
        from limbeck.series.loader import SeriesLoader

        return SeriesLoader

    def recognizes(self, source: object) -> bool:
        """Accept .ts, .tsv, .npz and .parquet files with `series`, .csv files or folders of them, and `SeriesData`."""
        return is_series(source)

    def encoder_config(self, name: str) -> type[SeriesConfig] | None:
        """Know one network."""
        return SeriesConfig if name == SeriesConfig.name else None

    def default_encoder(self) -> SeriesConfig:
        """Return that network."""
        return SeriesConfig()

    def default_student(self) -> SeriesConfig:
        """Return a network of a quarter of the width."""
        return SeriesConfig(hidden=STUDENT_HIDDEN, dim=STUDENT_DIM)

    def load_teacher(
        self,
        cfg: "TeacherConfig",
        module: "nn.Module | None",
        data: "SeriesData | None",
        start: "LoadedStart | None",
    ) -> "LoadedTeacher":
        """Return the encoder of a run on series, or an export of one."""
        from limbeck.series.teacher import load_series_teacher

        return load_series_teacher(cfg, module)

    def example(self, cfg: SeriesConfig, data: "SeriesData") -> "Tensor":
        """Return a series."""
        import torch

        return torch.zeros(1, data.steps, data.channels)

    def make_eval_callback(
        self, data: "SeriesData", cfg: SeriesConfig, teacher: "TeacherContext | None"
    ) -> "EvalCallback | None":
        """Score fidelity if there is a teacher."""
        from limbeck.evaluation.teacher_fidelity import has_fidelity, held_out_fidelity

        if teacher is None or not has_fidelity(teacher):
            return None
        return held_out_fidelity(teacher.teacher.images(data, teacher.device), teacher)

    def check_encoder(self, cfg: SeriesConfig) -> tuple[int, ...]:
        """Return the depths, if they are given."""
        return tuple(range(1, len(cfg.widths()) + 1)) if cfg.depth else ()

    def open(
        self,
        source: Any,
        *,
        store_size: int | None,
        allow_bad: float,
        selection: "Selection",
        encoder: SeriesConfig | None = None,
    ) -> "Resolved[SeriesData]":
        """Read the series, and cut them if the encoder is for windows; UserError for what only images have."""
        from limbeck.series.sources import open_series

        given = {"store-size": store_size, **vars(selection)}
        if flag := next((name.replace("_", "-") for name, value in given.items() if value), ""):
            raise UserError(
                f"--{flag} is for images, and '{source}' holds series: leave it out", code="flag-without-use"
            )
        data = open_series(source)
        if encoder is None or encoder.window is None:
            alone = ["one series is little to learn from: cut a long one into several (--window)"] * (len(data) == 1)
            return Resolved(data, [data.summary(), *data.remarks(), *alone])
        from limbeck.series.windows import cut_windows, describe_windows

        windows = cut_windows(data, encoder.window, encoder.stride)
        about = f"{data.summary()}: {describe_windows(windows, encoder)}"
        return Resolved(windows, [about, *windows.remarks()])

    def check(self, source: Any) -> list[str]:
        """Return a summary of the series, their classes, and what may be a mistake."""
        from limbeck.series.sources import open_series

        data = open_series(source)
        return [data.summary(), *data.classes(), *data.remarks()]

    def reopen(self, path: str, encoder: SeriesConfig) -> "SeriesData":
        """Read the series again, and cut them likewise."""
        from limbeck.series.sources import open_series
        from limbeck.series.windows import cut_windows

        data = open_series(path)
        return cut_windows(data, encoder.window, encoder.stride) if encoder.window else data

    def usual_steps(self, data: "SeriesData") -> int:
        """Return TS2Vec's number of steps, which is for batches of 8."""
        return FEW_STEPS if len(data) * data.steps * data.channels <= FEW_VALUES else MANY_STEPS

    def resolve_encoder(self, cfg: SeriesConfig, data: "SeriesData") -> Resolved[SeriesConfig]:
        """Choose the depth for the length of the series, and take their channels, means and deviations."""
        return fit_to_series(cfg, data.steps, *data.normalization())

    def start_encoder(self, cfg: "StartConfig") -> SeriesConfig:
        """Return the network of a run, an encoder or an export."""
        from limbeck.series.start import start_config

        return start_config(cfg.name)

    def load_start(self, cfg: "StartConfig", encoder: SeriesConfig | None) -> "LoadedStart":
        """Return the blocks of a trained encoder."""
        from limbeck.series.start import load_start

        return load_start(cfg, encoder)

    def fit_start(self, cfg: SeriesConfig, data: "SeriesData") -> Resolved[SeriesConfig]:
        """Keep the blocks, with the means and deviations that they were trained with; kernels follow the data."""
        reason = "with the means and deviations of the series that they were trained on (--from)"
        return Resolved(fit_start(cfg, data.channels, data.steps), [f"{plural(len(cfg.widths()), 'block')} {reason}"])

    def build_encoder(self, cfg: SeriesConfig) -> "DilatedEncoder":
        """Build the network; fixed kernels are joined when it is trained."""
        from limbeck.series.network import DilatedEncoder

        return DilatedEncoder(replace(cfg, kernel_features=0))

    def load_encoder(self, path: "str | PathLike[str]", depth: int | None = None) -> "DilatedEncoder":
        """Load the network with its fixed kernels."""
        from limbeck.series.encoder_io import load_encoder

        return load_encoder(path, depth)

    def completion(
        self, cfg: SeriesConfig, data: "SeriesData", targets: "Callable[[], ImageTargets | None] | None" = None
    ) -> "Callable[[Encoder], Encoder]":
        """Fit fixed kernels, and return the function that joins them with the network, if it has some."""
        if not cfg.kernel_features:
            return super().completion(cfg, data)
        from limbeck.series.join import fit_join

        return fit_join(data, cfg)

    def with_named_views(self, method: "MethodConfig") -> "MethodConfig":
        """Return the method, or its host, with a preset of series; UserError for one that needs neighbors."""
        _check_bags(method)
        owner = _with_views(method)
        named = replace(owner, views=_preset(method))
        return named if owner is method else cast("MethodConfig", replace(cast(Any, method), host=named))

    def make_views(self, method: "MethodConfig", cfg: SeriesConfig) -> "tuple[SeriesView, ...]":
        """Return as many views as the method has of images, for the same networks, from the presets of series."""
        from limbeck.series.views import VIEWS

        _check_bags(method)
        _check_pixels(method)
        view = replace(VIEWS[_preset(method)], spans=method.span_mask)
        owner = _with_views(method)
        specs = replace(owner, views=type(owner).views).make_views(IMAGE_SIZE)
        return tuple(replace(view, network=spec.network, crop_of=spec.crop_of) for spec in specs)

    def describe_views(self, method: "MethodConfig") -> str:
        """Name the preset."""
        return f", views '{_preset(method)}'"

    def evaluate(
        self, run: "Path", untrained: "Encoder", train: Any, test: Any, cfg: "EvaluateConfig", compared: "ComparedWith"
    ) -> "EvaluationResult":
        """Measure every layer of the encoder of a run on labeled series, next to the untrained one and `compared`."""
        from limbeck.series.encoder_io import load_encoder
        from limbeck.series.evaluation import evaluate_series
        from limbeck.series.network import DilatedEncoder
        from limbeck.series.sources import open_series

        assert isinstance(untrained, DilatedEncoder), "the encoder of a run on series is what `build_encoder` built"
        return evaluate_series(load_encoder(run), untrained, open_series(train), open_series(test), cfg, compared)


def _check_bags(method: "MethodConfig") -> None:
    """Raise UserError for a method that compares series with neighbors, which are found among images alone."""
    from limbeck.methods import DistillConfig

    if isinstance(method, DistillConfig) and method.bag_spec() is not None:
        raise UserError(
            f"method '{method.name}' compares images with their neighbors, which are not searched among series: take "
            "--method simreg",
            code="method-not-for-data",
        )


def _check_pixels(method: "MethodConfig") -> None:
    """Raise UserError for a size of local crops: a crop of a series is as long as the series."""
    if getattr(_with_views(method), "local_crop_size", None) is not None:
        raise UserError(
            "local_crop_size is in pixels, and crops of series are as long as the series: leave it out",
            code="method-not-for-data",
        )


def _with_views(method: "MethodConfig") -> Any:
    """Return the configuration that has the option `views`: the method's, or its host's."""
    return getattr(method, "host", method)


def _preset(method: "MethodConfig") -> str:
    """Return the preset of views; a method's usual one, which is for images, stands for one of series."""
    from limbeck.series.views import VIEWS

    owner = _with_views(method)
    if owner.views in VIEWS:
        return str(owner.views)
    if owner.views != type(owner).views:
        raise UserError(
            f"the views '{owner.views}' are of images: of series there are {', '.join(VIEWS)}", code="unknown-views"
        )
    return "whole" if method.span_mask else "noisy-crops"


MODALITY = Series()
