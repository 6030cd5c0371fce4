"""The weights that a run starts from: `--from START`, fitted to the network that is trained."""

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models.backbone import build_backbone, check_name, wants_small_stem
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.models.licenses import license_fact
from limbeck.models.pretrained import NetworkRef, Pretrained, load_from_file, load_pretrained, network_form
from limbeck.models.surgery import timm_defaults
from limbeck.models.weights import SUFFIXES, digest, mismatch

logger = logging.getLogger(__name__)

FREE = ("image_size", "cut", "mean", "std", "freeze_patch_embed", "gradient_checkpointing", "patch_filters")
"""Settings of the network that may differ from those of the start."""
FREE_ARGS = ("drop_rate", "drop_path_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate")
"""Arguments of timm that change the training and not the network."""


class LoadedStart(NamedTuple):
    """Trained weights, and the network that they belong to."""

    cfg: StartConfig  # with digest and license
    backbone: Any  # its configuration, an `EncoderConfig`; of images a `BackboneConfig`
    weights: dict[str, Tensor]  # its state dict


def start_form(name: str) -> BackboneConfig:
    """Return the configuration of the network to train from the start `name`, without reading weights.

    Raises:
        UserError: there is no such start, or it is a file of weights, whose network nothing states.
    """
    if is_file(name):
        raise UserError(
            f"'{name}' is a file of weights, which does not state its network: name that with --backbone (of a "
            "student, --student)",
            code="start-without-network",
        )
    return replace(_pinned(network_form(name)), patch_filters=0)


def load_start(cfg: StartConfig, given: BackboneConfig | None = None) -> LoadedStart:
    """Return the start that `cfg` names, for its own network, with what a `given` configuration of it changes.

    Raises:
        UserError: there is no such start, its weights do not fit or are others than recorded, the given network
            contradicts it, or nothing states its normalization.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights are overwritten and must not advance the run's generator
        form, found = _load_file(cfg.name, given) if given and is_file(cfg.name) else _load(cfg.name, given)
        trained = _normalized(form, found, cfg.name)
        backbone = build_backbone(replace(trained, patch_filters=0))
    try:
        backbone.load_state_dict(found.backbone.with_filters(0).state_dict())
    except RuntimeError as error:
        raise UserError(
            f"the weights of '{cfg.name}' do not fit '{form.name}': {mismatch(error)}", code="weights-mismatch"
        ) from error
    license = found.license or cfg.license
    for note in (*found.notes, _described(cfg.name, trained)):
        logger.info("%s", note)
    if fact := license_fact(license, cfg.name):
        logger.warning("the start %s has %s, and it may bind what is trained from it", cfg.name, fact)
    path = Path(cfg.name)
    name = str(path.absolute()) if path.exists() else cfg.name
    recorded = replace(cfg, name=name, license=license, digest=checked_digest(cfg, backbone))
    return LoadedStart(recorded, trained, backbone.state_dict())


def is_file(name: str) -> bool:
    """Return whether `name` is a file of weights, there or not."""
    return Path(name).is_file() or (name.endswith(SUFFIXES) and not Path(name).is_dir())


def _load(name: str, given: BackboneConfig | None) -> tuple[BackboneConfig, Pretrained]:
    """Return the configuration to train with, and the network of a start that states its architecture."""
    form = start_form(name)
    if given is not None:
        form = _over(form, given, name)
    return form, load_pretrained(NetworkRef(name, form.image_size, form.cut))


def _load_file(name: str, given: BackboneConfig) -> tuple[BackboneConfig, Pretrained]:
    """Return the configuration to train with, and the given network with the weights of a file."""
    check_name(given.name)
    size = given.image_size or timm_defaults(given.name).input_size[-1]
    trained = replace(given, image_size=size, small_stem=bool(given.small_stem), init="timm", sincos_positions=False)
    return _pinned(trained), load_from_file(Path(name), replace(trained, cut=None), given.cut)


def _pinned(form: BackboneConfig) -> BackboneConfig:
    """Return a configuration whose stem does not depend on the image size, under the name without a tag."""
    arch = form.name.partition(".")[0]
    return replace(form, name=arch, small_stem=wants_small_stem(form), gradient_checkpointing=False)


def _over(form: BackboneConfig, given: BackboneConfig, name: str) -> BackboneConfig:
    """Return the start's configuration with what `given` changes; its defaults count as not given.

    Raises:
        UserError: it changes the network.
    """
    usual = BackboneConfig(name=form.name)
    args = {key: value for key, value in given.args.items() if form.args.get(key) != value}
    values = {f.name: getattr(given, f.name) for f in fields(form) if f.name not in ("name", "args")}
    changes = {
        key: value
        for key, value in values.items()
        if value != getattr(form, key) and (value != getattr(usual, key) or (isinstance(value, bool) and key in FREE))
    }
    wrong = [key for key in changes if key not in FREE] + [f"args {key}" for key in args if key not in FREE_ARGS]
    if given.name.partition(".")[0] != form.name:
        wrong = [f"name {given.name}"]
    if wrong:
        raise UserError(
            f"the start '{name}' is a trained '{form.name}', and the network that is asked for differs from it "
            f"({', '.join(wrong)}): leave that out, or start from other weights",
            code="start-contradicted",
        )
    return replace(form, args={**form.args, **args}, **changes)


def _normalized(form: BackboneConfig, found: Pretrained, name: str) -> BackboneConfig:
    """Return the configuration with the normalization that the weights were trained with; ImageNet's is the default."""
    mean, std = form.mean or found.stated.mean, form.std or found.stated.std
    if mean is None or std is None:
        raise UserError(
            f"nothing states with which mean and standard deviation the weights of '{name}' were trained: give "
            "--backbone.mean and --backbone.std, or the tag of timm's weights in --backbone (of a student, --student)",
            code="unknown-normalization",
        )
    usual = (mean, std) == (IMAGENET_MEAN, IMAGENET_STD)
    return replace(form, mean=None if usual else mean, std=None if usual else std)


def _described(name: str, form: BackboneConfig) -> str:
    """Describe the parts that are taken from the start."""
    stem = ", stem for small images" if form.small_stem else ""
    cut = "" if form.cut is None else f", first {plural(form.cut, 'block or stage', 'blocks or stages')}"
    mean, std = form.normalization
    how = "" if form.mean is None else f", mean {mean} and standard deviation {std}"
    size = f"{form.image_size} x {form.image_size} pixels (--backbone.image-size)"
    return f"from {name}: {form.name}{stem}{cut}, images of {size}{how}"


def checked_digest(cfg: StartConfig, backbone: nn.Module) -> str:
    """Return the digest of the weights; raise UserError if the configuration records another one."""
    found = digest(backbone, {})
    if cfg.digest not in ("", found):
        raise UserError(
            f"the start '{cfg.name}' has changed (digest {found[:12]} instead of {cfg.digest[:12]}): restore the "
            "former one, or start a new run with this one",
            code="start-changed",
        )
    return found
