"""Write a detector of keypoints for other programs, and prove the file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_folder
from limbeck.data.sources.open import Source
from limbeck.data.store.layout import is_store
from limbeck.data.store.open import open_store
from limbeck.exports.checks import check_request
from limbeck.exports.networks import FoldedPreprocessing
from limbeck.exports.plain import README, PlainNetwork, write_plain
from limbeck.exports.provenance import store_of
from limbeck.exports.reduced import Reduction
from limbeck.exports.result import ExportResult, Format
from limbeck.keypoints.config import NORMALIZATION
from limbeck.keypoints.encoder_io import load_detector
from limbeck.keypoints.network import Detector
from limbeck.keypoints.places import whole_images
from limbeck.models.encoder_io import Preprocessing

BATCHES = (1, 2, 5)  # images of the random batches; the second one is traced
PROVED, FEWEST = 512, 12  # images of the proof at most and at least
CPU = torch.device("cpu")


class Places(nn.Module):
    """A detector as a network from images to the places of its keypoints."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B 3 S S] in [-1, 1] to (row, column) of every keypoint, [B 2K]."""
        return self.detector(images).final


def export_keypoints(
    run: Path,
    out: Path,
    depth: int | None,
    format: Format,
    fold: bool,
    images: Source | None,
    *,
    for_features: bool = False,
) -> ExportResult:
    """Write the detector of a run on keypoints to the new folder `out`.

    Args:
        run: the run, or its encoder.
        out: a folder, new or empty.
        depth: None, since keypoints need all blocks.
        format: "onnx" or "torch".
        fold: take uint8 images [B S S 3] and normalize inside the network.
        images: for the proof; None: those of the run, if they are still there.
        for_features: whether an option was given that only networks of features have.

    Raises:
        UserError: a depth, a format or an option that a detector does not have, or `out` is not empty.
        RuntimeError: the file gives other keypoints than the network; nothing is left at `out`.
    """
    if format not in ("onnx", "torch"):
        raise UserError(
            f"a keypoint detector cannot be written as {format}: export '{run}' with --format onnx or torch",
            code="not-exportable",
        )
    if for_features:
        raise UserError(
            f"'{run}' has a keypoint detector, which is exported in fp32, at its own image size and with its keypoints "
            "as they are: leave out --precision, --keep, --mixed, --image-size, --align and --rotate",
            code="flag-without-use",
        )
    check_request(out, format, fold, Reduction(precision="fp32", keep=1.0, mixed=False), None, False, "none")
    detector = load_detector(run)
    if depth is not None:
        detector.cut(depth)
    size, examples, plain = detector.cfg.image_size, _examples(run, images, detector, fold), _plain(detector, fold)
    taken = f"uint8 [B {size} {size} 3]" if fold else f"float32 [B 3 {size} {size}] in [-1, 1]"
    about = {"input": taken, "output": "row and column of every keypoint, from -1 to 1"}
    with atomic_folder(out.absolute()) as folder, torch.no_grad():
        result = write_plain(plain, run, out, format, examples, about, folder)
        (folder / README).write_text(_readme(result, taken, size), encoding="utf-8")
    return result


def _plain(detector: Detector, fold: bool) -> PlainNetwork:
    """Return the network that is written."""
    size = detector.cfg.image_size
    how = Preprocessing(image_size=size, store_size=size, mean=NORMALIZATION, std=NORMALIZATION)
    network = (FoldedPreprocessing(Places(detector), how) if fold else Places(detector)).eval()
    batches = [_random(count, size, fold) for count in BATCHES]
    names, nouns = ("images", "keypoints"), ("image", "images")
    return PlainNetwork(detector, "keypoints", network, batches, ("batch",), names, nouns)


def _examples(run: Path, source: Source | None, detector: Detector, fold: bool) -> tuple[Tensor, Tensor] | None:
    """Return images, as the file takes them, and labels for the proof; None where there are none, or too few."""
    if source is None:
        source = store_of(run)
        if source is None or not is_store(source):
            return None
    store = open_store(source)
    rows = np.arange(0, len(store), -(-len(store) // PROVED))
    if len(rows) < FEWEST:
        return None
    values = whole_images(store, detector.cfg.image_size, CPU)[0](rows)
    labels = torch.from_numpy(store.labels[rows])
    return _as_pixels(values) if fold else values, labels


def _as_pixels(values: Tensor) -> Tensor:
    """Return images in [-1, 1], [B 3 S S], as uint8 [B S S 3]."""
    return (255 * (values + 1) / 2).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _random(count: int, size: int, fold: bool) -> Tensor:
    """Return random images, as the file takes them."""
    values = 2 * torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count)) - 1
    return _as_pixels(values) if fold else values


def _readme(result: ExportResult, taken: str, size: int) -> str:
    """Return the page for people: what the file takes, the lines that use it, and its proof."""
    lines = {
        "onnx": 'import onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")\n'
        'places = session.run(None, {"images": images})[0]',
        "torch": 'import torch\n\nplaces = torch.export.load("model.pt2").module()(images)',
    }[result.format]
    proof = "\n".join(f"* {sentence}" for sentence in result.sentences())
    return (
        f"# A detector of keypoints\n\nIt maps images, {taken}, to {result.dim // 2} keypoints, [B {result.dim}]: row "
        "and column of\neach, from -1, the middle of the first pixel, to 1. Images that are not square show their "
        f"middle.\n\n```python\n{lines}\nrows_columns = (places.reshape(len(places), -1, 2) + 1) / 2 * {size - 1}  # "
        f"pixels\n```\n\n{proof}\n"
    )
