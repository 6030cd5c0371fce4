"""The vectors of series by an encoder of a run, at any depth, and files of them."""

from dataclasses import fields
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch

from limbeck.core.config import to_json
from limbeck.core.devices import choose_device
from limbeck.core.errors import UserError
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.files import About, EmbeddingRows
from limbeck.features.extract import extract
from limbeck.models.weights import digest
from limbeck.series.data import SeriesData
from limbeck.series.encoder_io import load_encoder
from limbeck.series.windows import as_trained

FOR_SERIES = ("batch_size", "device")
"""The settings that the embeddings of series have, too."""


def embed_series(
    series: SeriesData, run: str | PathLike[str], depth: int | None, cfg: EmbedConfig, *, maps: bool = False
) -> EmbeddingRows:
    """Return the vectors [N D] of series in float32, as an evaluation computes them.

    Args:
        series: the series, in memory; long ones are cut as the encoder was trained.
        run: a run on series, or its encoder.
        depth: blocks; None: all of them.
        cfg: batch size and device.
        maps: whether feature maps were asked for, which series do not have here.

    Raises:
        UserError: as `load_encoder`; the series have other channels than the encoder; or an option is for images.
    """
    _check_options(cfg, maps)
    whole, device = load_encoder(run), choose_device(cfg.device)
    whole.check_channels(series.channels)
    series = as_trained(series, whole.cfg)
    encoder = whole if depth is None else load_encoder(run, depth)
    last = encoder.taps[-1]
    found = extract(
        encoder,
        lambda rows: torch.from_numpy(series[rows]).to(device),
        np.arange(len(series)),
        taps=[last],
        device=device,
        batch_size=cfg.batch_size,
        show="series",
    )
    about = About(
        encoder=Path(fspath(run)).resolve().name,
        digest=digest(whole, {"encoder": to_json(whole.cfg)}),
        depth=last,
        dim=encoder.dim,
        image_size=series.steps,
        precision="fp32",
        images=len(series),
        store=series.digest,
        label_names=tuple(series.label_names),
    )
    return EmbeddingRows(about=about, paths=series.names, labels=series.labels, vectors=found[last].cpu().numpy())


def _check_options(cfg: EmbedConfig, maps: bool) -> None:
    """Raise UserError for a setting that only the embeddings of images have."""
    others = [f.name for f in fields(cfg) if f.name not in FOR_SERIES]
    given = ["maps"] * maps + [name for name in others if getattr(cfg, name) != getattr(EmbedConfig(), name)]
    if given and (given[0], cfg.precision) != ("precision", "fp32"):
        raise UserError(
            f"--{given[0].replace('_', '-')} is for images: leave it out, since series are embedded in fp32, as a "
            "whole and by one process",
            code="flag-without-use",
        )
