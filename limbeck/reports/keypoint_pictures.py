"""Pictures of a keypoint detector: training images with the keypoints and the edges that it finds in them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.store.store import Store, read_paths
from limbeck.data.thumbnail import data_uri
from limbeck.features.images import to_pixels
from limbeck.keypoints.config import DetectorConfig
from limbeck.keypoints.encoder_io import load_detector
from limbeck.keypoints.places import find_keypoints, whole_images
from limbeck.reports.charts import color
from limbeck.reports.runs import RunSummary

SIDE = 192  # pixels of a picture
SAMPLES = 12  # training images
EDGES = 64  # drawn at most, the strongest ones
FAINTEST = 0.1  # of the strongest edge; weaker ones are not drawn
CPU = torch.device("cpu")


class Edge(NamedTuple):
    """An edge that is drawn in every image."""

    first: int
    second: int
    weight: float
    opacity: float


class Skeleton(NamedTuple):
    """A training image with its keypoints."""

    name: str
    """Its path, as the source has it."""
    picture: str
    points: list[tuple[float, float]]
    """Column and row of every keypoint, in percent of the picture."""


class Skeletons(NamedTuple):
    """The pictures of one detector."""

    run: str
    colors: list[str]
    """Of the keypoints."""
    edges: list[Edge]
    """The faintest first, so that strong ones are drawn over them."""
    all_edges: int
    images: list[Skeleton]


def skeletons(run: RunSummary, cfg: DetectorConfig, store: Store) -> Skeletons:
    """Return pictures of a few images of the store, in even steps from the first to the last.

    Raises:
        UserError: the run has no detector, or a damaged one.
    """
    detector = load_detector(run.folder)
    rows = np.unique(np.linspace(0, len(store) - 1, SAMPLES).round().astype(np.int64))
    places = find_keypoints(detector, store, rows, CPU)
    paths, points = read_paths(store), percent(places, cfg.image_size).tolist()
    pictures = _pictures(store, rows)
    return Skeletons(
        run=run.name,
        colors=[color(number) for number in range(cfg.keypoints)],
        edges=strongest(detector.edges().detach()),
        all_edges=cfg.keypoints * (cfg.keypoints - 1) // 2,
        images=[Skeleton(paths[row], *found) for row, *found in zip(rows, pictures, points, strict=True)],
    )


def strongest(weights: Float[Tensor, "K K"]) -> list[Edge]:
    """Return the edges that are drawn, the faintest first; opacity 1 is that of the strongest one."""
    first, second = torch.triu_indices(len(weights), len(weights), offset=1)
    values = weights[first, second]
    order = values.argsort(stable=True)[-EDGES:]
    edges = [Edge(int(first[i]), int(second[i]), float(values[i]), float(values[i] / values.max())) for i in order]
    return [edge for edge in edges if edge.opacity >= FAINTEST]


def percent(keypoints: Float[Tensor, "B K 2"], size: int) -> Float[Tensor, "B K 2"]:
    """Return (column, row) in percent of the picture, from (row, column) between the centers of its outer pixels.

    Args:
        keypoints: from -1, the center of the first of `size` pixels, to 1, that of the last one.
        size: pixels of a side of the detector's input.
    """
    pixels = (keypoints.flip(2) + 1) / 2 * (size - 1) + 0.5
    return 100 * pixels / size


def _pictures(store: Store, rows: NDArray[np.int64]) -> Sequence[str]:
    images, view = whole_images(store, min(SIDE, store.size), CPU)
    pixels = to_pixels(images(rows), view)
    return [data_uri(image, SIDE) for image in pixels]
