"""Frozen encoders of series as teachers of smaller ones."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.config import to_json
from limbeck.core.encoder_modality import encoder_modality
from limbeck.core.errors import UserError
from limbeck.core.types import Dataset
from limbeck.data.sampling import ViewSpec
from limbeck.features.images import ImageFn
from limbeck.models.weights import check_digest, digest
from limbeck.series.data import SeriesData
from limbeck.series.encoder_io import load_encoder
from limbeck.series.network import DilatedEncoder
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, TeacherFeatures, TeacherNetwork

FOR_IMAGES = ("further", "weights", "image_size", "mean", "std", "batch_statistics", "cached_views")
"""Settings of a teacher that only one of images has."""


class SeriesNetwork(nn.Module):
    """An encoder of series with the surface of a teacher's network."""

    def __init__(self, encoder: DilatedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, series: Float[Tensor, "B T C"], feature_map: bool) -> TeacherFeatures:
        """Map series to vectors [B D]; there are no feature maps of two dimensions."""
        return TeacherFeatures(self.encoder(series).final)


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesTeacher(LoadedTeacher):
    """An encoder of series, which takes them as they are: its means and deviations are inside."""

    encoder: DilatedEncoder

    def example(self, row: Float[Tensor, "1 *item"]) -> Float[Tensor, "1 *item"]:
        """Return the row, since both networks take the same series."""
        return row

    def own_view(self, view: ViewSpec) -> ViewSpec:
        """Return the view as it is."""
        return view

    def images(self, store: Dataset, device: torch.device) -> ImageFn:
        """Return the function from rows to whole series on `device`; UserError for series of other channels."""
        assert isinstance(store, SeriesData), "the data of an encoder of series are series"
        self.encoder.check_channels(store.channels)
        return lambda rows: torch.from_numpy(store[rows]).to(device)


def load_series_teacher(cfg: TeacherConfig, module: nn.Module | None = None) -> SeriesTeacher:
    """Return the encoder of a run on series, or an export of one, frozen; with its fixed kernels, if it has some.

    Raises:
        UserError: `cfg` names no such encoder, a depth that it does not have, or settings of teachers of images; or
            the encoder is another one than recorded.
    """
    if module is not None or encoder_modality(cfg.name) != "series":
        raise UserError(
            f"the teacher '{cfg.name}' is no encoder of series: give a run on series, its encoder or an export",
            code="teacher-not-for-data",
        )
    defaults = {field.name: field.default for field in fields(cfg)}
    if given := next((name for name in FOR_IMAGES if getattr(cfg, name) != defaults[name]), ""):
        raise UserError(
            f"--teacher.{given.replace('_', '-')} is for teachers of images: leave it out, since one of series takes "
            "them as they are",
            code="flag-without-use",
        )
    encoder = load_encoder(cfg.name, cfg.depth)
    found = digest(encoder, {"encoder": to_json(encoder.cfg)})
    check_digest(cfg.name, cfg.digest, found)
    precision = "fp32" if cfg.precision == "auto" else cfg.precision  # small networks, whose kernels have thresholds
    return SeriesTeacher(
        cfg=cfg,
        network=TeacherNetwork(
            SeriesNetwork(encoder), precision=precision, batch_statistics=False, convolutional=False
        ),
        dim=encoder.dim,
        map_dim=0,
        image_size=0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="bilinear",
        digest=found,
        license=cfg.license,
        encoder=encoder,
    )
