"""Evaluate every layer of an encoder of series, next to what needs no training.

The lines of reference are the same network untrained, the fixed kernels that it is joined with and that no training
changes, raw series by their nearest neighbor, and, where aeon is installed, random convolutions with their
ridge classifier: MiniRocket (Dempster, Schmidt and Webb, KDD 2021) and MultiRocket (Tan, Dempster, Bergmeir and Webb,
2022). For the nearest neighbor, channels are standardized by the
training data, so that a missing value is the mean of its channel.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from limbeck.core.types import Dataset
from limbeck.evaluation.comparison import ComparedWith, compare
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.evaluator import evaluate_models
from limbeck.evaluation.hits import pack_hits
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.measure import measure_whole, share_values
from limbeck.evaluation.metric import Group, Values
from limbeck.evaluation.models import Bank, EvaluatedModel
from limbeck.evaluation.references import FIXED_KERNELS, START_NETWORK, UNTRAINED_NETWORK
from limbeck.evaluation.results import Comparison, EvaluationResult, ModelScores
from limbeck.features.extract import extract, extract_matrix
from limbeck.metrics.fidelity import NUM_NEIGHBORS
from limbeck.series.data import SeriesData
from limbeck.series.encoder_io import load_encoder
from limbeck.series.forecast import WINDOW, Recordings, forecast_errors, last_step_features, raw_windows
from limbeck.series.network import DilatedEncoder
from limbeck.series.teacher import SeriesTeacher
from limbeck.series.windows import as_trained

logger = logging.getLogger(__name__)
RAW, RAW_WINDOW = "raw series", "raw window"
ROCKETS = {"MiniRocket": "MiniRocketClassifier", "MultiRocket": "MultiRocketClassifier"}
"""Random convolutions, and their classes in aeon."""
GROUPS: tuple[Group, ...] = ("cost", "accuracy")
"""Metrics of the fixed kernels and of other networks."""
NOUNS = ("series", "series")
SHORTEST_ROCKET = 9  # steps of its kernels


class SeriesModel(EvaluatedModel):
    """An encoder of series at all of its depths."""

    def __init__(self, name: str, encoder: DilatedEncoder, steps: int, recordings: Recordings | None = None) -> None:
        self.name, self.encoder, self.image_size, self.depths = name, encoder, steps, encoder.taps
        self.recordings, self.offers = recordings, frozenset({"series" if recordings is None else "recordings"})

    def features(self, data: EvalData, store: Dataset) -> Bank:
        """Extract the features of whole series in float32."""
        found = as_series(store)
        return extract(
            self.encoder,
            lambda rows: torch.from_numpy(found[rows]).to(data.device),
            np.arange(len(found)),
            taps=self.depths,
            device=data.device,
            batch_size=data.cfg.batch_size,
            memory=int(data.cfg.memory_gib * 2**30),
            show=data.description(f"{self.name}: {'test' if store is data.test else 'train'} series"),
            unit=NOUNS[1],
        )

    def forecast_errors(self, data: EvalData) -> dict[int, Values]:
        """Forecast from the features of the window before every step."""
        assert self.recordings is not None, "recordings are offered"
        encoder = self.encoder.to(data.device).eval()
        found = forecast_errors(self.recordings, last_step_features(encoder), encoder.tap_dims, data)
        return {depth: found[depth] for depth in self.depths}

    def networks(self) -> dict[int, nn.Module]:
        """Return the cuts of the encoder."""
        return {depth: self.encoder.cut(depth).eval() for depth in self.depths}

    def example(self, device: torch.device) -> Tensor:
        """Return a random series [1 T C]."""
        return torch.randn(1, self.image_size, len(self.encoder.cfg.mean), device=device)


class WholeSeriesModel(SeriesModel):
    """An encoder of series at its last depth."""

    def __init__(self, name: str, encoder: DilatedEncoder, steps: int, recordings: Recordings | None = None) -> None:
        super().__init__(name, encoder, steps, recordings)
        self.depths = encoder.taps[-1:]


class KernelModel(EvaluatedModel):
    """The fixed kernels of an encoder, without its blocks."""

    offers, depths, name = frozenset({"series"}), (0,), FIXED_KERNELS

    def __init__(self, encoder: DilatedEncoder, steps: int) -> None:
        self.network, self.image_size = KernelNetwork(encoder), steps

    def features(self, data: EvalData, store: Dataset) -> Bank:
        """Compute the features of whole series."""
        found, network = as_series(store), self.network.to(data.device)
        return extract_matrix(
            lambda batch: {0: network(batch)},
            lambda rows: torch.from_numpy(found[rows]).to(data.device),
            np.arange(len(found)),
            {0: network.dim},
            device=data.device,
            batch_size=data.cfg.batch_size,
            memory=int(data.cfg.memory_gib * 2**30),
        )

    def networks(self) -> dict[int, nn.Module]:
        """Return the kernels."""
        return {0: self.network}

    def example(self, device: torch.device) -> Tensor:
        """Return a random series [1 T C]."""
        return torch.randn(1, self.image_size, len(self.network.encoder.cfg.mean), device=device)


class KernelNetwork(nn.Module):
    """Series [B T C] to the features of the fixed kernels of an encoder [B F]."""

    def __init__(self, encoder: DilatedEncoder) -> None:
        super().__init__()
        assert encoder.kernels is not None, "the encoder has kernels"
        self.encoder, self.kernels, self.dim = encoder.cut(1), encoder.kernels, encoder.kernels.dim

    def forward(self, series: Float[Tensor, "B T C"]) -> Float[Tensor, "B F"]:
        """Normalize as the encoder does, and apply the kernels."""
        found: Tensor = self.kernels(self.encoder.normalized(series).mT, self.encoder.present(series))
        return found


def evaluate_series(
    encoder: DilatedEncoder,
    untrained: DilatedEncoder,
    train: SeriesData,
    test: SeriesData,
    cfg: EvaluateConfig,
    compared: ComparedWith | None = None,
) -> EvaluationResult:
    """Compute every metric at every depth of `encoder`: fitted on `train`, measured on `test`.

    Long series are cut into windows as those that the encoder was trained on, for other networks as well.

    Raises:
        UserError: as `EvalData.of`; the series have other channels than an encoder; or one of the others is none.
    """
    compared = compared or ComparedWith()
    others = _load_others(compared)
    for each in (encoder, *others.values()):
        for series in (train, test):
            each.check_channels(series.channels)
    if not cfg.forecast:  # which is of whole recordings
        train, test = (as_trained(series, encoder.cfg) for series in (train, test))
    data, steps = EvalData.of(train, test, cfg), train.steps
    recordings = Recordings.of(train, test, cfg.forecast) if cfg.forecast else None
    own = SeriesModel("network", encoder, steps, recordings)
    bare = SeriesModel(UNTRAINED_NETWORK, untrained, steps, recordings)
    around = [WholeSeriesModel(name, other, steps, recordings) for name, other in others.items()]
    if recordings:
        plain = replace(data, labels=None)
        return evaluate_models(own, bare, plain, _forecast_references(recordings, around), NOUNS)
    comparison = _compare_with_teacher(compared, [own, bare, *around], data)
    kernels = [KernelModel(encoder, steps)] if encoder.kernels else []

    def references(found: EvalData) -> tuple[ModelScores, ...]:
        if found.labels is None:
            return ()
        fixed = measure_references(found, kernels, compared.measured)
        return (*fixed, *(comparison.students[2:] if comparison else _measure_whole(around, found)))

    return replace(evaluate_models(own, bare, data, references, NOUNS), comparison=comparison)


def _load_others(compared: ComparedWith) -> dict[str, DilatedEncoder]:
    """Return the start of a run and further encoders, by name."""
    start = {f"{START_NETWORK}{compared.start[0]}": load_encoder(compared.start[1])} if compared.start else {}
    return start | {name: load_encoder(name) for name in compared.others}


def _compare_with_teacher(compared: ComparedWith, students: Sequence[SeriesModel], data: EvalData) -> Comparison | None:
    """Return the fidelity of whole networks to the teacher; None without one, or with too few test series."""
    if compared.teacher is None:
        return None
    if len(data.test) <= NUM_NEIGHBORS + 1:
        logger.warning(
            "not comparing with the teacher: %d test series, and %d neighbors of each are compared",
            len(data.test),
            NUM_NEIGHBORS,
        )
        return None
    assert isinstance(compared.teacher, SeriesTeacher), "the teacher of a run on series is one of series"
    names = ("student", "untrained", *(model.name for model in students[2:]))
    steps = students[0].image_size
    whole = [WholeSeriesModel(name, model.encoder, steps) for name, model in zip(names, students, strict=True)]
    teacher = WholeSeriesModel("teacher", compared.teacher.encoder, steps)
    return compare(whole, teacher, data.train, data.test, data.cfg)


def _measure_whole(models: Sequence[EvaluatedModel], data: EvalData) -> list[ModelScores]:
    return [measure_whole(MetricInputs(model, data), GROUPS) for model in models]


def _forecast_references(
    recordings: Recordings, others: Sequence[SeriesModel]
) -> Callable[[EvalData], tuple[ModelScores, ...]]:
    """Return the forecasts from the raw values of the same windows, and by other encoders."""

    def measured(data: EvalData) -> tuple[ModelScores, ...]:
        values = forecast_errors(recordings, *raw_windows(recordings), data)[0]
        raw = [ModelScores(name=RAW_WINDOW, image_size=WINDOW, values=values)] if data.cfg.references else []
        return (*raw, *_measure_whole(others, data))

    return measured


def as_series(data: Dataset) -> SeriesData:
    """Return the data of an evaluation of series."""
    assert isinstance(data, SeriesData), "the data of an evaluation of series are series"
    return data


def measure_references(
    data: EvalData, kernels: Sequence[KernelModel] = (), measured: Sequence[ModelScores] | None = None
) -> tuple[ModelScores, ...]:
    """Return the accuracies of raw series, `kernels` and, if aeon is there, MiniRocket; none without labels.

    `measured` has all but those of the kernels, if it is given.
    """
    if data.labels is None or not data.cfg.references:
        return ()
    if measured is not None:
        return (*_measure_whole(kernels, data), *measured)
    steps = max(as_series(store).steps for store in (data.train, data.test))
    mean, std = as_series(data.train).normalization()
    scaled = [_rows((as_series(store).values - mean) / std, steps) for store in (data.train, data.test)]
    found = [_scores(RAW, steps, "one_nn", _nearest(scaled[0], data.labels.train, scaled[1]), data.labels.test)]
    found += _measure_whole(kernels, data)
    train, test = (_rows(as_series(store).values, steps) for store in (data.train, data.test))
    if find_spec("aeon") is None:
        logger.info("for random convolutions as a line of reference: pip install 'limbeck[series]'")
    elif steps >= SHORTEST_ROCKET:
        for name in ROCKETS:
            predicted = rocket(name, train, data.labels.train.numpy(), test, data.cfg.seed)
            found.append(_scores(name, steps, "linear", torch.from_numpy(predicted), data.labels.test))
    return tuple(found)


def _rows(series: Float[np.ndarray, "N T C"], steps: int) -> Float32[np.ndarray, "N T C"]:
    """Return the values, 0 where they are missing and up to `steps` steps."""
    values = np.nan_to_num(series).astype(np.float32)
    return np.pad(values, ((0, 0), (0, steps - values.shape[1]), (0, 0)))


def _nearest(train: Float32[np.ndarray, "N T C"], labels: Tensor, test: Float32[np.ndarray, "M T C"]) -> Tensor:
    """Return the class of the nearest series by Euclidean distance."""
    rows, queries = (torch.from_numpy(values).flatten(1).double() for values in (train, test))
    return labels[torch.cdist(queries, rows).argmin(dim=1)]


def rocket(
    name: str, train: Float32[np.ndarray, "N T C"], labels: np.ndarray, test: Float32[np.ndarray, "M T C"], seed: int
) -> np.ndarray:
    """Return the classes by one of `ROCKETS` of aeon, with the ridge classifier that its authors use."""
    from aeon.classification import convolution_based

    model = getattr(convolution_based, ROCKETS[name])(random_state=seed)
    found: np.ndarray = model.fit(train.transpose(0, 2, 1), labels).predict(test.transpose(0, 2, 1))
    return found.astype(np.int64)


def _scores(name: str, steps: int, column: str, predicted: Tensor, labels: Tensor) -> ModelScores:
    right = predicted == labels
    hits = {column: pack_hits(right)}
    return ModelScores(name=name, image_size=steps, values=share_values(column, right), hits=hits)
