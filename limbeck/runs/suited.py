"""Refuse networks, data and settings of different kinds, before anything of an evaluation is computed."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

from limbeck.core.encoder_modality import encoder_modality
from limbeck.core.errors import UserError
from limbeck.data.check.issues import ALLOW_BAD
from limbeck.data.sources.open import Source
from limbeck.evaluation.config import OF, EvaluateConfig
from limbeck.modalities import Modality, find_modality, modality_named, modality_of
from limbeck.modalities.base import StoreModality
from limbeck.models.encoder_io import encoder_folder
from limbeck.runs.config import read_config

TIMM = "timm:"
DONE_ANYWAY = (("precision", "fp32"), ("linear", "none"))
"""Settings that ask for what is done where they are for other data."""


def check_suited(
    runs: Sequence[str],
    others: Sequence[str],
    data: Sequence[Source],
    cfg: EvaluateConfig,
    *,
    allow_bad: float = ALLOW_BAD,
    exclude: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """Check that networks, the data to evaluate them on, and the settings are for one kind of data.

    Args:
        runs: folders of runs.
        others: networks as a whole; one at least if there are no runs.
        data: the sources to fit on and to score.
        cfg, allow_bad, exclude, only: the settings, as of `limbeck.runs.api.evaluate_run`.

    Raises:
        UserError: a run has no encoder; networks or data are of different kinds; or a setting would have no effect.
    """
    first, modality = [*runs, *others][0], _check_networks(runs, others)
    _check_sources(first, modality, data)
    pictures = {"allow_bad": allow_bad != ALLOW_BAD, "exclude": exclude, "only": only}
    _check_settings(first, modality, cfg, [name for name, value in pictures.items() if value])


def _check_networks(runs: Sequence[str], others: Sequence[str]) -> Modality[Any, Any]:
    """Return the modality of runs that are evaluated together, and of the networks beside them."""
    images = modality_named("")
    kinds = {run: modality_of(read_config(Path(run)).backbone) for run in runs}
    if not kinds:
        for name in others:
            if (found := _modality_at(name) or images) is not images:
                raise UserError(
                    f"'{name}' has an encoder of {found.name} and is no run: give the folder of its run",
                    code="not-images",
                )
        return images
    first, modality = next(iter(kinds.items()))
    for run, kind in kinds.items():
        if kind is not modality:
            raise _differ(first, modality, run, kind)
        encoder_folder(run)
    for name in others:
        if not modality.takes_others:
            raise UserError(
                f"'{name}' is measured on images and '{first}' on {modality.name}: leave --beside out, and evaluate "
                "runs one by one",
                code="not-images",
            )
        if modality is not images and name.startswith(TIMM):
            raise UserError(f"timm has no networks for {modality.name}: leave '{name}' out", code="no-timm")
        if (found := _modality_at(name) or modality) is not modality:
            raise _differ(first, modality, name, found)
    return modality


def _check_sources(network: str, modality: Modality[Any, Any], sources: Sequence[Source]) -> None:
    """Raise UserError for data of another kind than a network is for; opening them tells of what is missing."""
    for source in sources:
        path = Path(source).expanduser() if isinstance(source, str | PathLike) else None
        if path is not None and not path.exists():
            continue
        found = find_modality(source)
        what = ""
        if isinstance(modality, StoreModality) and not isinstance(found, StoreModality):
            what = found.nouns[1]
        if not isinstance(modality, StoreModality) and path and path.is_dir() and not modality.recognizes(source):
            what = f"no {modality.nouns[1]}"
        if what:
            place = "the source" if path is None else f"'{source}'"
            raise UserError(
                f"'{network}' has an encoder of {modality.name}, and {place} holds {what}: give {modality.nouns[1]}, "
                f"or a run on {found.name}",
                code="data-not-for-network",
            )


def _check_settings(network: str, modality: Modality[Any, Any], cfg: EvaluateConfig, pictures: Sequence[str]) -> None:
    """Raise UserError for a setting that is for other data than a network's; `pictures` are given and for images."""
    given = list(_for_others(modality, cfg))
    if not isinstance(modality, StoreModality):
        given += [(name, "images") for name in pictures]
    for name, of in given:
        raise UserError(
            f"--{name.replace('_', '-')} is for {of}, and '{network}' has an encoder of {modality.name}: leave it out",
            code="flag-without-use",
        )


def _for_others(modality: Modality[Any, Any], cfg: EvaluateConfig) -> Iterator[tuple[str, str]]:
    """Yield every setting that is changed and for other data, and what it is for."""
    for field in fields(cfg):
        of, value = field.metadata[OF], getattr(cfg, field.name)
        if of and of not in modality.measured_as and value != field.default and (field.name, value) not in DONE_ANYWAY:
            yield field.name, of


def _modality_at(name: str) -> Modality[Any, Any] | None:
    """Return the modality of the encoder in a folder; None of a name, and where no encoder is found."""
    if not Path(name).is_dir():
        return None
    try:
        return modality_named(encoder_modality(encoder_folder(name)))
    except UserError:
        return None


def _differ(first: str, modality: Modality[Any, Any], second: str, other: Modality[Any, Any]) -> UserError:
    return UserError(
        f"'{first}' has an encoder of {modality.name}, and '{second}' one of {other.name}: evaluate them one by one, "
        "each on its own data",
        code="modalities-differ",
    )
