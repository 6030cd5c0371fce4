"""Encoders of series on disk: `model.safetensors` and `config.json`, which a run or an export holds."""

import logging
from os import PathLike

from safetensors import SafetensorError
from safetensors.torch import load_file

from limbeck.core.config import from_json
from limbeck.core.encoder_modality import encoder_modality
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.models.encoder_io import encoder_folder, training_stage
from limbeck.series.config import SeriesConfig
from limbeck.series.network import DilatedEncoder

logger = logging.getLogger(__name__)
WITHOUT_KERNELS = {"kernel_features": 0}
"""Default of encoders that were written before there were fixed kernels."""


def encoder_config(path: str | PathLike[str]) -> SeriesConfig:
    """Return the configuration of the encoder of a run, an export or an encoder folder.

    Raises:
        UserError: there is none, or it is not of series.
    """
    folder = encoder_folder(path)
    if encoder_modality(folder) != "series":
        raise UserError(f"'{path}' is no encoder of series: give a run on series", code="not-series-encoder")
    described = read_json(folder / "config.json")["limbeck"]["encoder"]
    return from_json(SeriesConfig, WITHOUT_KERNELS | described, f"{folder}/config.json")


def load_encoder(path: str | PathLike[str], depth: int | None = None) -> DilatedEncoder:
    """Load the encoder of a run or an encoder folder, cut at `depth` if given.

    Of a run that has not ended, it is the encoder of its last checkpoint, which a warning says.

    Raises:
        UserError: nothing to load at `path`, weights that do not fit, a depth that the network does not have.
    """
    folder = encoder_folder(path)
    if stage := training_stage(folder):
        logger.warning("'%s' has not ended: this is its encoder at %s", path, stage)
    encoder = DilatedEncoder(encoder_config(path))
    try:
        encoder.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        message = f"{folder}/model.safetensors is not the network of its config.json: {error}"
        raise UserError(message, code="damaged-encoder") from error
    encoder.eval()
    if depth is None:
        return encoder
    if depth not in encoder.taps:
        raise UserError(f"depth {depth} is not in '{path}': choose 1 to {encoder.taps[-1]}", code="depth-out-of-range")
    return encoder.cut(depth)
