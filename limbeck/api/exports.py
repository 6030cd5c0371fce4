"""Exports that are compared: every depth, input size and precision of a run, and the best of them within limits."""

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from limbeck.data.sources.open import Source
from limbeck.exports import ExportResult, export
from limbeck.exports.checks import check_out
from limbeck.exports.survey import survey
from limbeck.exports.variants import Survey, choose, parse_limits
from limbeck.reports.variants import write_variants

logger = logging.getLogger(__name__)


def export_all(
    run: str | PathLike[str],
    out: str | PathLike[str],
    *,
    images: Source | None = None,
    image_sizes: Sequence[int] = (),
) -> Survey:
    """Measure every depth of a run at several input sizes and in every precision, as ONNX files on this CPU.

    The new folder `out` gets a page, a CSV and a JSON file. What was measured is cached, so that the call goes on there
    after a stop, and `limbeck.export_within` chooses from it.

    Args:
        run: a run, an encoder, or a timm export of Limbeck.
        out: a folder, new or empty.
        images: images to calibrate on and to compare with, labeled or not; by default those of the run.
        image_sizes: in pixels; by default that of the training, and three quarters and half of it.

    Raises:
        UserError: `out` is not empty, there is no network or it is a classifier, there are too few images, the network
            cannot have a size, or packages are missing.
    """
    check_out(Path(out))
    found = survey(Path(run), images, image_sizes)
    write_variants(found, Path(run).resolve().name, Path(out))
    return found


def export_within(
    run: str | PathLike[str],
    out: str | PathLike[str],
    *,
    latency: str | None = None,
    size: str | None = None,
    images: Source | None = None,
    fold_preprocessing: bool = False,
) -> ExportResult:
    """Write the ONNX file that keeps most neighbors of the whole network within a latency and a size.

    Depth, input size and precision are chosen from what `export_all` measures; a message says what is given up.

    Args:
        run: a run, an encoder, or a timm export of Limbeck.
        out: a folder, new or empty.
        latency: what one image may take on one thread of this CPU, such as "5ms".
        size: what the file may have, such as "3MB".
        images: images to calibrate on and to compare with, labeled or not; by default those of the run.
        fold_preprocessing: take uint8 pixels and normalize inside the network.

    Raises:
        UserError: as `export_all`; or nothing is within the limits, and the message names the nearest.
    """
    limits = parse_limits(latency, size)
    check_out(Path(out))
    found = survey(Path(run), images)
    chosen = choose(found.variants, limits)
    logger.info("chosen within %s: %s", limits, chosen.sentence())
    logger.info("given up: %s", found.whole.sentence())
    return export(
        run,
        out,
        chosen.depth,
        "onnx",
        fold_preprocessing,
        precision=chosen.precision,
        images=images,
        keep=None if chosen.precision == "fp32" else 0.0,
        image_size=chosen.image_size,
    )
