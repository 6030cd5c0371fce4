"""Real images for the calibration of an export and for its proof."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.augment.apply import eval_view
from limbeck.data.sources.open import Source
from limbeck.data.store.layout import is_store
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.exports.proof import ExampleBatch
from limbeck.exports.provenance import store_of
from limbeck.features.images import eval_images
from limbeck.models.encoder_io import Preprocessing

CALIBRATION, PROOF, FITTING = 128, 500, 4096  # images, at most
QUICK_PROOF = 128  # images for a file in fp32, of which nothing has to be chosen
LEAST = 64  # images of both together
BATCH = 16
CPU = torch.device("cpu")


class Examples(NamedTuple):
    """Images as the exported network takes them, in batches; those of the proof are not calibrated on."""

    calibration: list[ExampleBatch]
    proof: list[ExampleBatch]


def open_examples(run: Path, source: Source | None, how: Preprocessing) -> Store | None:
    """Return the images of `source`, or else those that a run was trained on, or else None."""
    if source is not None:
        size = None if isinstance(source, str | Path) and is_store(Path(source)) else how.store_size
        return open_store(source, None, size)
    path = store_of(run)
    return Store.open(path) if path is not None and is_store(path) else None


def own_examples(run: Path, how: Preprocessing) -> Store | None:
    """Return the images that a run was trained on, None where they are missing, damaged or too few for a proof."""
    with contextlib.suppress(UserError):
        store = open_examples(run, None, how)
        return store if store is not None and len(store) >= LEAST else None
    return None


def split_examples(store: Store, how: Preprocessing, fold: bool, proof: int = PROOF) -> Examples:
    """Return images for the calibration and others for the proof, spread evenly over the store.

    Args:
        store: the images.
        how: the preprocessing of the encoder.
        fold: whether the network takes uint8 [B H W 3], and not normalized float32 [B 3 H W].
        proof: images for the proof, at most.

    Raises:
        UserError: there are too few images.
    """
    calibration, proven = _rows(store, proof)
    return Examples(_batches(store, calibration, how, fold), _batches(store, proven, how, fold))


def fitting_rows(store: Store) -> np.ndarray:
    """Return rows that are not those of the proof, spread evenly over the store.

    Raises:
        UserError: there are too few images.
    """
    rows = np.setdiff1d(np.arange(len(store)), _rows(store, PROOF)[1])
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), FITTING), dtype=np.int64)]


def _rows(store: Store, proof: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows for the calibration and for the proof."""
    if len(store) < LEAST:
        raise UserError(
            f"there are {plural(len(store), 'image')} for calibration and proof, which need at least {LEAST}: give "
            "more with --images",
            code="too-few-images",
        )
    count = min(len(store), CALIBRATION + proof)
    rows = np.linspace(0, len(store) - 1, count, dtype=np.int64)
    is_calibration = np.zeros(count, dtype=bool)
    is_calibration[np.linspace(0, count - 1, min(CALIBRATION, count // 2), dtype=np.int64)] = True
    return rows[is_calibration], rows[~is_calibration]


def _batches(store: Store, rows: np.ndarray, how: Preprocessing, fold: bool) -> list[ExampleBatch]:
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return [(_images(store, part, how, fold), torch.from_numpy(store.labels[part])) for part in parts]


def _images(store: Store, rows: np.ndarray, how: Preprocessing, fold: bool) -> torch.Tensor:
    interpolation = "bicubic" if how.interpolation == "bicubic" else "bilinear"
    if not fold:
        return eval_images(store, how.image_size, how.mean, how.std, CPU, interpolation)(rows)  # type: ignore[arg-type]
    pixels = torch.from_numpy(np.asarray(store.images[rows]))
    view = eval_view(pixels, how.image_size, (0, 0, 0), (1, 1, 1), interpolation)  # type: ignore[arg-type]
    return (255 * view).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
