"""Check a request for an export before any work."""

from pathlib import Path
from typing import get_args

from limbeck.core.disk import check_writable
from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.packages import require
from limbeck.exports.reduced import Reduction
from limbeck.exports.result import Format, Precision, Rotation


def check_request(
    out: Path, format: str, fold: bool, reduction: Reduction, keep: float | None, align: bool, rotate: str
) -> None:
    """Raise UserError for a request that contradicts itself, or has no place or no packages.

    Args:
        out: folder of the export.
        format: of the files.
        fold: whether the preprocessing becomes a part of the network.
        reduction: the precision.
        keep: what it must keep, as far as it was given.
        align: whether features are mapped to those of the whole network.
        rotate: what order they get.
    """
    if format not in get_args(Format):
        raise UserError(
            f"unknown format '{format}'{did_you_mean(format, get_args(Format))}; choose timm, onnx, torch or "
            "executorch",
            code="unknown-format",
        )
    if fold and format == "timm":
        raise UserError(
            "a timm folder cannot hold the normalization; choose format onnx or torch to fold it in",
            code="fold-needs-onnx-or-torch",
        )
    _check_reduction(format, reduction, keep)
    _check_projection(format, align, rotate)
    if format == "onnx":
        require("export", "onnx", "onnxruntime", "onnxscript", purpose="the format onnx")
    if format == "executorch":
        require("executorch", "executorch", purpose="the format executorch")
    check_out(out)


def check_out(out: Path) -> None:
    """Raise UserError unless a new folder can be written at `out`."""
    check_writable(out.absolute().parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"'{out}' already exists and is not an empty folder; choose another or remove it", code="out-not-empty"
        )


def _check_reduction(format: str, reduction: Reduction, keep: float | None) -> None:
    precision = reduction.precision
    if precision not in get_args(Precision):
        raise UserError(
            f"unknown precision '{precision}'{did_you_mean(precision, get_args(Precision))}; choose fp32, fp16 or int8",
            code="unknown-precision",
        )
    if precision != "fp32" and format != "onnx":
        raise UserError(
            f"precision {precision} is for ONNX files: choose format onnx, not {format}", code="precision-needs-onnx"
        )
    if not 0 <= reduction.keep <= 1:
        raise UserError(f"--keep is a share of the neighbors, from 0 to 1, not {reduction.keep:g}", code="bad-keep")
    if precision == "fp32" and keep is not None:
        raise UserError(
            f"fp32 keeps every neighbor, so that --keep {keep:g} has no use: give --precision, or leave it out",
            code="keep-needs-precision",
        )
    if precision != "int8" and reduction.mixed:
        raise UserError(
            f"--mixed is for int8, where layers can stay in float32; the precision is {precision}",
            code="mixed-needs-int8",
        )


def _check_projection(format: str, align: bool, rotate: str) -> None:
    if rotate not in get_args(Rotation):
        raise UserError(
            f"unknown rotation '{rotate}'{did_you_mean(rotate, get_args(Rotation))}; choose pca or half-whitening",
            code="unknown-rotation",
        )
    if align and rotate != "none":
        raise UserError(
            f"aligned features are those of the whole network, and --rotate {rotate} would make others of them: leave "
            "one of them out",
            code="align-or-rotate",
        )
    if format == "timm" and (align or rotate != "none"):
        raise UserError(
            f"a timm folder cannot hold the layer of {'--align' if align else '--rotate'}: choose format onnx or torch",
            code="projection-needs-onnx-or-torch",
        )
