"""Teachers that are Limbeck's or timm's: backbones that can be cut, with weights that fit or are refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from limbeck.core.config import to_json
from limbeck.core.errors import UserError, did_you_mean, one_line
from limbeck.models.backbone import Backbone, BackboneConfig, timm_recipe
from limbeck.models.encoder_io import encoder_folder, load, load_preprocessing, read_encoder_config
from limbeck.models.surgery import timm_defaults
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import Found, Interpolation, Sight, TeacherFeatures, triple
from limbeck.teachers.license import license_in_card
from limbeck.teachers.weights import LOADING_ERRORS, SUFFIXES, mismatch, read_weights, without_classifier

HUB = "hf-hub:"
TIMM = "timm:"
LOOSE = ("dla", "inception_v3", "mobilenetv5")  # modules of timm that load what fits and leave the rest as it is


class TimmTeacher(nn.Module):
    """A backbone's last vector and last map."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor, maps: bool) -> TeacherFeatures:
        """[B 3 S S] -> `final` [B D] and, if asked for, the last map [B C H W]."""
        last = self.backbone.taps[-1]
        features = self.backbone(images, (last,) if maps else (), maps)
        return TeacherFeatures(features.final, features.feature_maps.get(last))


def from_limbeck(cfg: TeacherConfig) -> Found:
    """The encoder of a run, or an encoder, or an export for timm."""
    folder = encoder_folder(cfg.name)
    backbone, seen = load(folder, cfg.depth), load_preprocessing(folder)
    fixed = timm_defaults(backbone.cfg.name).fixed_input_size
    if cfg.image_size not in (None, seen.image_size) and fixed:
        resized = replace(
            backbone.cfg, image_size=cfg.image_size, per_layer_norm=False
        )  # its last norm is the model's own
        backbone = _build(cfg, resized, dict(backbone.model.state_dict()))
    sight = Sight(seen.image_size, seen.mean, seen.std, _interpolation(seen.interpolation))
    return _found(backbone, sight, _inherited_licence(read_encoder_config(folder).get("provenance")))


def from_timm_name(cfg: TeacherConfig) -> Found:
    """A model of timm's registry, with timm's weights or with those of a file."""
    name = cfg.name.removeprefix(TIMM)
    if not timm.is_model(name):
        raise UserError(
            f"teacher '{cfg.name}' is neither a folder nor a timm model{did_you_mean(name, timm.list_models())}"
        )
    known = timm_defaults(name)
    size = cfg.image_size or known.input_size[-1]
    arch, _, tag = name.partition(".")
    if cfg.weights is not None:  # under the bare name, since with some tags timm loads what fits
        weights = without_classifier(read_weights(Path(cfg.weights)), known.classifier)
        backbone = _build(cfg, _plain(arch, size, {}), weights)
    elif known.has_weights:
        backbone = _build(cfg, _plain(name, size, {}), None)
    else:
        raise UserError(f"timm has no weights for '{name}': give a file with --teacher.weights, or another teacher")
    if cfg.weights is not None and not tag:  # then nothing says how the file's network was trained
        return _found(_cut(backbone, cfg.depth), Sight(size, None, None, _interpolation(known.interpolation)))
    return _found(_cut(backbone, cfg.depth), _sight(vars(known), size), known.license)


def from_timm_folder(cfg: TeacherConfig, config: dict[str, Any]) -> Found:
    """A folder in timm's format (`timm.models.save_for_hf`, or from a hub), whose config.json holds `config`."""
    folder = Path(cfg.name)
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    preferred = [path for path in files if path.name == "model.safetensors"] or files
    if not preferred:
        raise UserError(f"{folder} has a timm config.json but no weights: model.safetensors is missing")
    known, args = config.get("pretrained_cfg", config), config.get("model_args", {})
    if not isinstance(known, dict) or not isinstance(args, dict):
        raise UserError(f"{folder}/config.json is not as timm writes it: pretrained_cfg and model_args are no objects")
    return _described(cfg, known, config["architecture"], args, read_weights(preferred[0]), license_in_card(folder))


def from_hub(cfg: TeacherConfig) -> Found:
    """A repository of the Hugging Face hub in timm's format."""
    identity = cfg.name.removeprefix(HUB)
    try:
        known, name, args = timm.models.load_model_config_from_hf(identity)
        weights = timm.models.load_state_dict_from_hf(identity, weights_only=True)
    except LOADING_ERRORS as error:
        raise UserError(f"'{cfg.name}' cannot be read from the hub: {one_line(error)}") from error
    return _described(cfg, known, name, args, weights, "")


def _described(
    cfg: TeacherConfig, known: Mapping[str, Any], name: str, args: dict[str, Any], weights: dict[str, Tensor], card: str
) -> Found:
    """The network of a config in timm's format, with the weights beside it."""
    size = cfg.image_size or known.get("input_size", timm_defaults(name).input_size)[-1]
    kept = {key: size if key == "img_size" else value for key, value in args.items() if key != "num_classes"}
    weights = without_classifier(weights, known.get("classifier") or timm_defaults(name).classifier)
    backbone = _cut(_build(cfg, _plain(name, size, kept), weights), cfg.depth)
    return _found(backbone, _sight(known, size), known.get("license") or card)


def _plain(name: str, size: int, args: dict[str, Any]) -> BackboneConfig:
    """timm's network as timm builds it."""
    plain: dict[str, Any] = {"small_stem": False, "init": "timm", "sincos_positions": False}
    return BackboneConfig(name=name, image_size=size, args=args, freeze_patch_embed=False, **plain)


def _build(cfg: TeacherConfig, form: BackboneConfig, weights: dict[str, Tensor] | None) -> Backbone:
    """The backbone of `form` with `weights`, all of which must fit, or with timm's own; timm resamples positions."""
    name, args = timm_recipe(form)
    overlay = {} if weights is None else {"state_dict": weights, "classifier": None, "custom_load": False}
    try:
        model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **args)
        if weights is not None and timm.models.is_model_in_modules(form.name, LOOSE):
            model.load_state_dict(weights)
    except UserError:
        raise
    except LOADING_ERRORS as error:
        at = "" if cfg.image_size is None else f" at {cfg.image_size} pixels"
        if weights is None:
            raise UserError(f"timm's weights of '{name}' cannot be loaded{at}: {mismatch(error)}") from error
        source = cfg.weights or cfg.name
        raise UserError(f"the weights of '{source}' are not those of '{form.name}'{at}: {mismatch(error)}") from error
    model.pretrained_cfg.pop("state_dict", None)
    if not callable(getattr(model, "forward_intermediates", None)):
        raise UserError(f"teacher '{form.name}' has no forward_intermediates in timm, which maps need; choose another")
    return Backbone(replace(form, init="timm", sincos_positions=False), model)


def _cut(backbone: Backbone, depth: int | None) -> Backbone:
    return backbone if depth is None else backbone.cut(depth)


def _found(backbone: Backbone, sight: Sight, license: str | None = None) -> Found:
    name, args = timm_recipe(backbone.cfg)
    about = {"network": name, "args": to_json(args), "depth": len(backbone.taps)}
    patch = backbone.model.patch_embed.patch_size[0] if backbone.is_vit else None
    return Found(TimmTeacher(backbone), sight, license or "", about, patch, convolutional=not backbone.is_vit)


def _sight(known: Mapping[str, Any], size: int) -> Sight:
    mean, std = (triple(known.get(key)) for key in ("mean", "std"))
    return Sight(size, mean, std, _interpolation(known.get("interpolation")))


def _interpolation(name: Any) -> Interpolation:
    return "bilinear" if name == "bilinear" else "bicubic"


def _inherited_licence(note: Any) -> str:
    """Of the teacher that the run of a Limbeck encoder had, if it had one."""
    for key in ("run", "teacher", "license"):
        note = note.get(key) if isinstance(note, dict) else None
    return note if isinstance(note, str) else ""
