"""Teachers from Limbeck's or timm's networks: backbones that can be cut, with weights that fit or are refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from limbeck.core.config import to_json
from limbeck.core.errors import UserError, did_you_mean, one_line
from limbeck.models.backbone import (
    Backbone,
    BackboneConfig,
    build_network,
    check_name,
    stock_args,
    wants_small_stem,
)
from limbeck.models.encoder_io import encoder_folder, load, load_preprocessing, read_encoder_config
from limbeck.models.surgery import timm_defaults
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import Interpolation, StatedPreprocessing, TeacherFeatures, TeacherSource, triple
from limbeck.teachers.license import license_in_card
from limbeck.teachers.weights import LOADING_ERRORS, SUFFIXES, mismatch, read_weights, without_classifier

HUB = "hf-hub:"
TIMM = "timm:"
LENIENT = ("dla", "inception_v3", "mobilenetv5")  # timm modules that load what fits and leave the rest random


class TimmTeacher(nn.Module):
    """A backbone's last vector and last feature map."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor, feature_map: bool) -> TeacherFeatures:
        """Map [B 3 S S] to `final` [B D] and, if requested, the last feature map [B C H W]."""
        last = self.backbone.taps[-1]
        features = self.backbone(images, (last,) if feature_map else (), feature_map)
        return TeacherFeatures(features.final, features.feature_maps.get(last))


def from_limbeck(cfg: TeacherConfig) -> TeacherSource:
    """Return the encoder of a run, an encoder folder, or an export for timm."""
    folder = encoder_folder(cfg.name)
    backbone, preprocessing = load(folder, cfg.depth), load_preprocessing(folder)
    if cfg.image_size not in (None, preprocessing.image_size) and timm_defaults(backbone.cfg.name).fixed_input_size:
        # the norm of the last layer is the model's own
        resized = replace(backbone.cfg, image_size=cfg.image_size, per_layer_norm=False)
        backbone = _build(cfg, resized, dict(backbone.model.state_dict()))
    interpolation = _interpolation(preprocessing.interpolation)
    stated = StatedPreprocessing(preprocessing.image_size, preprocessing.mean, preprocessing.std, interpolation)
    return _source(backbone, stated, _inherited_license(read_encoder_config(folder).get("provenance")))


def from_timm_name(cfg: TeacherConfig) -> TeacherSource:
    """Return a model of timm's registry, with timm's weights or with those of a file."""
    name = cfg.name.removeprefix(TIMM)
    if not timm.is_model(name):
        raise UserError(
            f"the teacher '{cfg.name}' is neither a folder nor a timm model{did_you_mean(name, timm.list_models())}",
            code="unknown-teacher",
        )
    known = timm_defaults(name)
    size = cfg.image_size or known.input_size[-1]
    arch, _, tag = name.partition(".")
    if cfg.weights is not None:  # under the bare name, since with some tags timm loads what fits
        weights = without_classifier(read_weights(Path(cfg.weights)), known.classifier)
        backbone = _build(cfg, _timm_defaults_only(arch, size, {}), weights)
    elif known.has_weights:
        backbone = _build(cfg, _timm_defaults_only(name, size, {}), None)
    else:
        raise UserError(
            f"timm has no weights for '{name}': give a file with --teacher.weights, or another teacher",
            code="no-weights",
        )
    if cfg.weights is not None and not tag:  # then nothing states how the network of the file was trained
        unstated = StatedPreprocessing(size, None, None, _interpolation(known.interpolation))
        return _source(_cut(backbone, cfg.depth), unstated)
    return _source(_cut(backbone, cfg.depth), _stated(vars(known), size), known.license)


def from_timm_folder(cfg: TeacherConfig, config: dict[str, Any]) -> TeacherSource:
    """Return the model of a folder in timm's format (`timm.models.save_for_hf`), whose config.json holds `config`."""
    folder = Path(cfg.name)
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    preferred = [path for path in files if path.name == "model.safetensors"] or files
    if not preferred:
        raise UserError(
            f"'{folder}' has a config.json of timm's but no weights: model.safetensors is missing", code="no-weights"
        )
    known, args = config.get("pretrained_cfg", config), config.get("model_args", {})
    if not isinstance(known, dict) or not isinstance(args, dict):
        raise UserError(
            f"'{folder}/config.json' is not as timm writes it: pretrained_cfg and model_args must be objects",
            code="not-a-teacher",
        )
    return _described(cfg, known, config["architecture"], args, read_weights(preferred[0]), license_in_card(folder))


def from_hub(cfg: TeacherConfig) -> TeacherSource:
    """Return the model of a repository in timm's format on the Hugging Face hub."""
    repository = cfg.name.removeprefix(HUB)
    try:
        known, name, args = timm.models.load_model_config_from_hf(repository)
        weights = timm.models.load_state_dict_from_hf(repository, weights_only=True)
    except LOADING_ERRORS as error:
        raise UserError(
            f"'{cfg.name}' cannot be read from the hub: {one_line(error)}", code="hub-unreachable"
        ) from error
    return _described(cfg, known, name, args, weights, "")


def _described(
    cfg: TeacherConfig, known: Mapping[str, Any], name: str, args: dict[str, Any], weights: dict[str, Tensor], card: str
) -> TeacherSource:
    """Return the network of a configuration in timm's format, with the weights next to it."""
    size = cfg.image_size or known.get("input_size", timm_defaults(name).input_size)[-1]
    network_args = {key: size if key == "img_size" else value for key, value in args.items() if key != "num_classes"}
    weights = without_classifier(weights, known.get("classifier") or timm_defaults(name).classifier)
    backbone = _cut(_build(cfg, _timm_defaults_only(name, size, network_args), weights), cfg.depth)
    return _source(backbone, _stated(known, size), known.get("license") or card)


def _timm_defaults_only(name: str, size: int, args: dict[str, Any]) -> BackboneConfig:
    """Return the configuration of timm's network as timm builds it."""
    defaults: dict[str, Any] = {"small_stem": False, "init": "timm", "sincos_positions": False}
    return BackboneConfig(name=name, image_size=size, args=args, freeze_patch_embed=False, **defaults)


def _build(cfg: TeacherConfig, form: BackboneConfig, weights: dict[str, Tensor] | None) -> Backbone:
    """Build the backbone of `form` with `weights`, all of which must fit, or with timm's; timm resamples positions."""
    try:
        model = _network(form, weights)
    except UserError:
        raise
    except OSError as error:  # a file or an address that cannot be read; what does not fit is another error
        raise UserError(
            f"the weights of '{form.name}' cannot be loaded ({one_line(error)}): download them where there is a "
            "network, or name a folder that holds them",
            code="weights-not-loaded",
        ) from error
    except LOADING_ERRORS as error:
        at = "" if cfg.image_size is None else f" at {cfg.image_size} pixels"
        owner = f"'{cfg.weights or cfg.name}'" if weights is not None else "timm"
        raise UserError(
            f"the weights of {owner} do not fit '{form.name}'{at}: {mismatch(error)}", code="weights-mismatch"
        ) from error
    if not callable(getattr(model, "forward_intermediates", None)):
        raise UserError(
            f"the teacher '{form.name}' has no forward_intermediates in timm, which feature maps need: choose another",
            code="unsupported-network",
        )
    return Backbone(replace(form, init="timm", sincos_positions=False), model)


def _network(form: BackboneConfig, weights: dict[str, Tensor] | None) -> Any:
    """Return the network with its weights; that of an encoder that was cut, or has a small stem, as it was saved."""
    if weights is not None and (form.cut is not None or wants_small_stem(form)):
        model = build_network(form)
        model.load_state_dict(weights)
        return model
    check_name(form.name)
    overlay = {} if weights is None else {"state_dict": weights, "classifier": None, "custom_load": False}
    model = timm.create_model(form.name, pretrained=True, pretrained_cfg_overlay=overlay, **stock_args(form))
    if weights is not None and timm.models.is_model_in_modules(form.name, LENIENT):
        model.load_state_dict(weights)
    model.pretrained_cfg.pop("state_dict", None)
    return model


def _cut(backbone: Backbone, depth: int | None) -> Backbone:
    return backbone if depth is None else backbone.cut(depth)


def _source(backbone: Backbone, stated: StatedPreprocessing, license: str | None = None) -> TeacherSource:
    form = backbone.cfg
    stem = {"stem_pool": form.stem_pool} if wants_small_stem(form) else {}
    identity = {"network": form.name, "args": to_json(stock_args(form)), "depth": len(backbone.taps), **stem}
    patch = backbone.model.patch_embed.patch_size[0] if backbone.is_vit else None
    network = TimmTeacher(backbone)
    return TeacherSource(network, stated, license or "", identity, patch, convolutional=not backbone.is_vit)


def _stated(known: Mapping[str, Any], size: int) -> StatedPreprocessing:
    mean, std = (triple(known.get(key)) for key in ("mean", "std"))
    return StatedPreprocessing(size, mean, std, _interpolation(known.get("interpolation")))


def _interpolation(name: Any) -> Interpolation:
    return "bilinear" if name == "bilinear" else "bicubic"


def _inherited_license(provenance: Any) -> str:
    """Return the license of the teacher that the run of a Limbeck encoder had, if it had one."""
    for key in ("run", "teacher", "license"):
        provenance = provenance.get(key) if isinstance(provenance, dict) else None
    return provenance if isinstance(provenance, str) else ""
