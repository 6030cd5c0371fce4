"""The pictures of a report: training images as stored, as views and with keypoints, and nearest neighbors."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.data.sampling import ViewSpec
from limbeck.data.store.layout import is_store
from limbeck.data.store.store import Store
from limbeck.data.thumbnail import data_uri, thumbnail
from limbeck.features.extract import extract
from limbeck.features.images import augmented_images, eval_images, to_pixels
from limbeck.keypoints.config import DetectorConfig
from limbeck.modalities import modality_of
from limbeck.models.backbone import Backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.reports.keypoint_pictures import Skeletons, skeletons
from limbeck.reports.overview import Overview, overview
from limbeck.reports.portable import portable_text
from limbeck.reports.runs import RunSummary

logger = logging.getLogger(__name__)

SIDE = 72  # pixels of a picture
SAMPLES = 12  # training images
VIEWS = 2  # views of each
QUERIES = 6  # images with their neighbors
NEIGHBORS = 6  # of each, at each depth
CANDIDATES = 512  # images among which neighbors are searched
RUNS = 4  # of a page that get a row of neighbors, or pictures of keypoints
CPU = torch.device("cpu")


class Sample(NamedTuple):
    """A training image and its views, as data URIs."""

    name: str
    stored: str
    views: list[str]


class Neighbor(NamedTuple):
    """A neighbor of a query."""

    picture: str
    label: str
    same: bool
    """Whether it has the label of the query."""


class Ranked(NamedTuple):
    """The neighbors of a query in one feature space."""

    name: str
    """Such as "layer 3"."""
    neighbors: list[Neighbor]


class Query(NamedTuple):
    """An image and its neighbors in every feature space."""

    picture: str
    label: str
    spaces: list[Ranked]


class Agreement(NamedTuple):
    """Fraction of the neighbors of all candidates that have the label of their query."""

    name: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures of a page; what is missing is empty, with the reasons in `notes`."""

    samples: Sequence[Sample] = ()
    queries: Sequence[Query] = ()
    agreement: Sequence[Agreement] = ()
    candidates: int = 0
    source: str = ""
    """Images that the neighbors are from."""
    overview: Overview | None = None
    """All candidates at once, at the last depth of the first run."""
    skeletons: Sequence[Skeletons] = ()
    """Of runs that find keypoints."""
    notes: Sequence[str] = ()


class _Space(NamedTuple):
    """Vectors of the candidates."""

    name: str
    vectors: Float[Tensor, "N D"]


def gallery(runs: Sequence[RunSummary]) -> Gallery:
    """Return the pictures: of one run neighbors at three depths, of several at the last depth of each.

    Images of the last evaluation are preferred for neighbors, since the network has not been trained on them. If the
    first run is a keypoint detector, the pictures are those of the detectors among the runs.
    """
    notes: list[str] = []
    if isinstance(runs[0].config.backbone, DetectorConfig):
        return Gallery(skeletons=list(_skeletons(runs, notes)), notes=notes)
    if not isinstance(runs[0].config.backbone, BackboneConfig):
        return Gallery(notes=["Pictures are shown of networks for features of images alone."])
    training, shown = _training_images(runs[0], notes), _evaluated_images(runs[0])
    samples = _samples(runs[0], training, notes) if training else []
    store = shown or training
    if store is None:
        return Gallery(samples=samples, notes=notes)
    rows = np.unique(np.linspace(0, len(store) - 1, CANDIDATES).round().astype(np.int64))
    spaces = list(_spaces(runs, store, rows, notes))
    found = [(space.name, _nearest(space.vectors)) for space in spaces]
    seen = spaces[-1 if len(runs) == 1 else 0] if spaces else None
    return Gallery(
        samples=samples,
        queries=_queries(store, rows, found) if found else [],
        agreement=[Agreement(name, _same(store.labels[rows], near)) for name, near in found] if store.labeled else [],
        candidates=len(rows),
        source="test images of the evaluation" if shown else "training images",
        overview=_overview(seen, store, rows) if seen else None,
        notes=notes,
    )


def _skeletons(runs: Sequence[RunSummary], notes: list[str]) -> Iterator[Skeletons]:
    for run in runs[:RUNS]:
        cfg = run.config.backbone
        if not isinstance(cfg, DetectorConfig) or (store := _training_images(run, notes)) is None:
            continue
        try:
            yield skeletons(run, cfg, store)
        except UserError as error:
            notes.append(f"No keypoints of {run.name}: {_reason(error, run)}.")


def _reason(error: UserError, run: RunSummary) -> str:
    return portable_text(str(error), to_json(run.config), str(run.folder), str(run.folder.resolve()))


def _overview(space: _Space, store: Store, rows: NDArray[np.int64]) -> Overview | None:
    labels = store.labels[rows]
    return overview(space.name, space.vectors, labels, store.label_names, lambda i: _thumbnail(store, rows[i]))


def _training_images(run: RunSummary, notes: list[str]) -> Store | None:
    if not run.config.store or not is_store(Path(run.config.store)):
        notes.append(f"The images that {run.name} was trained on are not at hand, so none are shown.")
        return None
    try:
        store = Store.open(run.config.store)
    except UserError as error:
        notes.append(f"No training images: {_reason(error, run)}.")
        return None
    if store.digest != run.config.digest:
        notes.append("The images have changed since the run began: no training images are shown.")
        return None
    return store


def _evaluated_images(run: RunSummary) -> Store | None:
    """Return the test images of the last evaluation, if they are what they were."""
    path = run.result.test.path if run.result else None
    if not run.result or not path or not is_store(Path(path)):
        return None
    try:
        store = Store.open(path)
    except UserError:
        return None
    return store if store.digest == run.result.test.digest else None


def _samples(run: RunSummary, store: Store, notes: list[str]) -> list[Sample]:
    """Return a few training images with the first views that the method compares."""
    rows = np.unique(np.linspace(0, len(store) - 1, SAMPLES + 2)[1:-1].round().astype(np.int64))
    try:
        specs: Sequence[ViewSpec] = modality_of(run.config.backbone).make_views(run.config.method, run.config.backbone)
    except UserError as error:
        notes.append(f"No views: {error}.")
        specs = ()
    own = [(number, spec) for number, spec in enumerate(specs) if spec.image == "own" and spec.network == "student"]
    views = [_views(store, number, spec, rows, run.config.training.seed) for number, spec in own[:VIEWS]]
    return [
        Sample(_label(store, row), data_uri(np.asarray(store.images[row]), SIDE), [view[index] for view in views])
        for index, row in enumerate(rows)
    ]


def _views(store: Store, number: int, spec: ViewSpec, rows: NDArray[np.int64], seed: int) -> list[str]:
    view = spec.augmentation
    pixels = to_pixels(augmented_images(store, view, number, CPU, seed)(rows), view)
    return [data_uri(image, SIDE) for image in pixels]


def _spaces(runs: Sequence[RunSummary], store: Store, rows: NDArray[np.int64], notes: list[str]) -> Iterator[_Space]:
    """Yield the feature spaces to compare: three depths of a single run, else the last depth of each run."""
    for run in runs[:RUNS]:
        try:
            backbone, how = load(run.folder), load_preprocessing(run.folder)
        except UserError as error:
            notes.append(f"No neighbors for {run.name}: {_reason(error, run)}.")
            continue
        depths = _depths(backbone) if len(runs) == 1 else [backbone.taps[-1]]
        images = eval_images(store, how.image_size, how.mean, how.std, CPU)
        features = extract(
            backbone, images, rows, taps=depths, device=CPU, batch_size=64, show=f"neighbors: {run.name}"
        )
        for depth in depths:
            yield _Space(f"layer {depth}" if len(runs) == 1 else run.name, F.normalize(features[depth], dim=-1))


def _depths(backbone: Backbone) -> list[int]:
    """Return a shallow, a middle and the last depth."""
    taps = backbone.taps
    return sorted({taps[0], taps[(len(taps) - 1) // 2], taps[-1]})


def _nearest(vectors: Float[Tensor, "N D"]) -> NDArray[np.int64]:
    """Return the nearest other candidates of every candidate by cosine, [N k]; N is at most `CANDIDATES`."""
    cosines = (vectors @ vectors.T).fill_diagonal_(-torch.inf)
    return cosines.topk(min(NEIGHBORS, len(vectors) - 1)).indices.numpy()


def _same(labels: NDArray[np.int64], near: NDArray[np.int64]) -> float:
    return float((labels[near] == labels[:, None]).mean()) if near.size else 0.0


def _queries(store: Store, rows: NDArray[np.int64], found: Sequence[tuple[str, NDArray[np.int64]]]) -> list[Query]:
    chosen = np.unique(np.linspace(0, len(rows) - 1, QUERIES + 2)[1:-1].round().astype(np.int64))
    return [
        Query(
            picture=_thumbnail(store, rows[at]),
            label=_label(store, rows[at]),
            spaces=[Ranked(name, [_neighbor(store, rows, at, x) for x in near[at]]) for name, near in found],
        )
        for at in chosen
    ]


def _neighbor(store: Store, rows: NDArray[np.int64], query: np.int64, position: np.int64) -> Neighbor:
    own, other = int(store.labels[rows[query]]), int(store.labels[rows[position]])
    row = rows[position]
    return Neighbor(_thumbnail(store, row), _label(store, row), own >= 0 and own == other)


def _thumbnail(store: Store, row: np.int64) -> str:
    return thumbnail(np.asarray(store.images[row]), int(store.widths[row]), int(store.heights[row]), SIDE)


def _label(store: Store, row: np.int64) -> str:
    label = int(store.labels[row])
    return store.label_names[label] if label >= 0 else ""
