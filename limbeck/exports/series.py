"""Write an encoder of series for other programs, with any number of series and steps, and prove the file."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_folder
from limbeck.exports.checks import check_request
from limbeck.exports.plain import README, PlainNetwork, write_plain
from limbeck.exports.provenance import store_of
from limbeck.exports.reduced import Reduction
from limbeck.exports.result import ExportResult, Format
from limbeck.series.encoder_io import load_encoder
from limbeck.series.network import DilatedEncoder
from limbeck.series.sources import open_series
from limbeck.series.windows import as_trained

SHAPES = ((1, 40), (2, 64), (5, 97))  # series and steps of the random batches; the second one is traced
PROVED, FEWEST = 512, 12  # series of the proof at most and at least
FREE, NOUNS = ("batch", "steps"), ("series", "series")


class FinalFeatures(nn.Module):
    """An encoder as a network from series to the features of its last block."""

    def __init__(self, encoder: DilatedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, series: Tensor) -> Tensor:
        """Map series [B T C] to features [B D]."""
        return self.encoder(series).final


def export_series(
    run: Path, out: Path, depth: int | None, format: Format, series: Any, *, for_images: bool = False
) -> ExportResult:
    """Write the encoder of a run on series, cut at `depth`, to the new folder `out`.

    Args:
        run: a run on series, or its encoder.
        out: a folder, new or empty.
        depth: blocks; by default all.
        format: "onnx" or "torch".
        series: source of the proof; None: the series of the run, if they are still there.
        for_images: whether an option was given that only images have.

    Raises:
        UserError: the format or an option is for images, `out` is not empty, there is no such depth, or the series have
            other channels.
        RuntimeError: the file gives other features than the network; nothing is left at `out`.
    """
    if format == "timm":
        raise UserError(f"timm has no networks for series: export '{run}' with --format onnx or torch", code="no-timm")
    if for_images:
        raise UserError(
            f"'{run}' has an encoder of series, which is exported in fp32 and takes series as they are: leave out the "
            "options of images (precision, preprocessing, image size, align, rotate)",
            code="flag-without-use",
        )
    check_request(out, format, False, Reduction(precision="fp32", keep=1.0, mixed=False), None, False, "none")
    encoder = load_encoder(run, depth)
    examples = _examples(run, series, encoder)
    with atomic_folder(out.absolute()) as folder, torch.no_grad():
        return _write(run, out, encoder, format, examples, folder)


def _examples(run: Path, source: Any, encoder: DilatedEncoder) -> tuple[Tensor, Tensor] | None:
    """Return series and labels for the proof; None where there are none, or too few."""
    path = source if source is not None else store_of(run)
    if source is None and (path is None or not path.exists()):
        return None
    data = as_trained(open_series(path), encoder.cfg)
    encoder.check_channels(data.channels)
    rows = slice(0, None, -(-len(data) // PROVED))
    values, labels = torch.from_numpy(data[rows]), torch.from_numpy(data.labels[rows])
    return (values, labels) if len(values) >= FEWEST else None


def _write(
    run: Path, out: Path, encoder: DilatedEncoder, format: Format, examples: tuple[Tensor, Tensor] | None, folder: Path
) -> ExportResult:
    channels = len(encoder.cfg.mean)
    batches = [_random(count, steps, channels) for count, steps in SHAPES]
    names = ("series", "features")
    plain = PlainNetwork(encoder, "series", FinalFeatures(encoder).eval(), batches, FREE, names, NOUNS)
    about = {"input": "float32 [B T C], NaN where values are missing"}
    result = write_plain(plain, run, out, format, examples, about, folder)
    (folder / README).write_text(_readme(result, channels), encoding="utf-8")
    return result


def _random(count: int, steps: int, channels: int) -> Tensor:
    """Return random series of which the last steps, and one value in between, are missing."""
    generator = torch.Generator().manual_seed(count)
    series = torch.randn(count, steps, channels, generator=generator)
    series[-1, -3:] = torch.nan
    series[0, 5, 0] = torch.nan
    return series


def _readme(result: ExportResult, channels: int) -> str:
    """Return the page for people: what the file takes, the lines that use it, and its proof."""
    lines = {
        "onnx": f"import numpy as np\nimport onnxruntime\n\nseries = np.zeros((4, 100, {channels}), np.float32)\n"
        'session = onnxruntime.InferenceSession("model.onnx")\nfeatures = session.run(None, {"series": series})[0]',
        "torch": f"import torch\n\nseries = torch.zeros(4, 100, {channels})\n"
        'features = torch.export.load("model.pt2").module()(series)',
    }[result.format]
    proof = "\n".join(f"* {sentence}" for sentence in result.sentences())
    return (
        f"# An encoder of time series\n\nIt maps series, float32 [B T {channels}] of any number B and length T, to\n"
        f"features [B {result.dim}]. NaN is a missing value; do not normalize: means and deviations are inside.\n\n"
        f"```python\n{lines}\n```\n\n{proof}\n"
    )
