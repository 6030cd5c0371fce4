"""The weights that a run on series starts from: `--from START`."""

from dataclasses import fields, replace
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.models.config import StartConfig
from limbeck.models.start import LoadedStart, checked_digest
from limbeck.series.config import SeriesConfig
from limbeck.series.encoder_io import encoder_config, load_encoder

FREE = ("kernel_features", "dilations", "window", "stride")
"""Settings of the network that may differ from those of the start."""


def start_config(path: str) -> SeriesConfig:
    """Return the network of a start without its windows, which were of the series that it was trained on."""
    return replace(encoder_config(path), window=None, stride=None)


def load_start(cfg: StartConfig, given: SeriesConfig | None) -> LoadedStart:
    """Return the blocks of a trained encoder, with what a `given` configuration changes; kernels are fitted anew.

    Raises:
        UserError: there is no such encoder, its weights are others than recorded, or the given network is another one.
    """
    form = start_config(cfg.name)
    chosen = form if given is None else _over(form, given, cfg.name)
    blocks = load_encoder(cfg.name).without_kernels()
    path = Path(cfg.name)
    recorded = replace(cfg, name=str(path.absolute()), digest=checked_digest(cfg, blocks))
    return LoadedStart(recorded, chosen, blocks.state_dict())


def _over(form: SeriesConfig, given: SeriesConfig, name: str) -> SeriesConfig:
    """Return the network of the start with the kernels and windows asked for; other defaults count as not given."""
    usual = SeriesConfig()
    names = [field.name for field in fields(form) if field.name not in FREE]
    wrong = [key for key in names if getattr(given, key) not in (getattr(form, key), getattr(usual, key))]
    if wrong:
        asked = ", ".join(f"{key} {getattr(given, key)} instead of {getattr(form, key)}" for key in wrong)
        raise UserError(
            f"the start '{name}' is a trained network, and the one that is asked for differs from it ({asked}): leave "
            "that out, or start from other weights",
            code="start-contradicted",
        )
    return replace(form, kernel_features=given.kernel_features, window=given.window, stride=given.stride)
