"""Networks with trained weights, from wherever they are: teachers, starts and lines of reference are loaded here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import timm
import torch
from torch import Tensor

from limbeck.core.config import from_json
from limbeck.core.errors import UserError, did_you_mean, one_line
from limbeck.core.files import read_json
from limbeck.core.run_folder import ENCODER
from limbeck.models.backbone import Backbone, build_network, check_name, stock_args, wants_small_stem
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import encoder_folder, load, load_preprocessing, read_encoder_config
from limbeck.models.hub import HUB, check_obtainable, hub_config, is_on_hub, split_name, unreachable
from limbeck.models.layouts import fit_names
from limbeck.models.licenses import inherited_license, license_in_card
from limbeck.models.surgery import timm_defaults, timm_network
from limbeck.models.weights import LOADING_ERRORS, SUFFIXES, mismatch, read_weights, without_classifier

TIMM = "timm:"
LENIENT = ("dla", "inception_v3", "mobilenetv5")  # timm modules that load what fits and leave the rest random
PATCHES = "patch_embed.proj.weight"

Interpolation = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]


class StatedPreprocessing(NamedTuple):
    """The preprocessing that the source of a network states; None for what it does not state."""

    image_size: int | None
    mean: Triple | None
    std: Triple | None
    interpolation: Interpolation = "bicubic"


class Pretrained(NamedTuple):
    """A network with its trained weights, as its source provides it."""

    backbone: Backbone
    stated: StatedPreprocessing
    license: str  # "" if the source states none
    notes: tuple[str, ...] = ()  # what was changed so that the weights fit


class NetworkRef(NamedTuple):
    """Request for a network."""

    name: str
    """A folder (run, encoder, export, timm's format), a timm model ("timm:NAME") or "hf-hub:OWNER/MODEL"."""
    image_size: int | None = None
    """Input size in pixels; None: the network's own."""
    depth: int | None = None
    """Number of blocks or stages; None: all."""


def load_pretrained(ref: NetworkRef) -> Pretrained:
    """Return the network that `ref` names, with its weights.

    Raises:
        UserError: nothing has that name, weights are missing or damaged, do not fit, or cannot be downloaded, or the
            size or the depth does not fit.
    """
    if is_on_hub(ref.name):
        return _from_limbeck(ref) if "limbeck" in hub_config(ref.name) else _from_hub(ref)
    folder = Path(ref.name)
    if not folder.is_dir():
        return _from_timm_name(ref)
    config = folder_config(folder)
    return _from_limbeck(ref) if "limbeck" in config else _from_timm_folder(ref, config)


def load_from_file(file: Path, form: BackboneConfig, depth: int | None = None) -> Pretrained:
    """Return timm's network `form` with the weights of a file; a tag in its name states how they were trained.

    Without a tag, the normalization is the one on which all of timm's weights of the network agree, if they do.

    Raises:
        UserError: as `load_pretrained`.
    """
    check_name(form.name)
    arch, _, tag = form.name.partition(".")
    known = timm_defaults(form.name)
    form = replace(form, name=arch, image_size=form.image_size or known.input_size[-1])
    weights, notes = _fitted(without_classifier(read_weights(file), known.classifier), form, file)
    backbone = _cut(_build(form, weights, str(file)), depth)
    stated = _stated(vars(known) if tag else _agreed(arch), form.image_size)
    if not tag and stated.mean:
        notes += (f"mean {stated.mean} and standard deviation {stated.std}, as all of timm's weights of '{arch}' have",)
    return Pretrained(backbone, stated, (known.license or "") if tag else "", notes)


def network_form(name: str) -> BackboneConfig:
    """Return the configuration of the network `name`, without its weights; see `NetworkRef`."""
    if not is_on_hub(name) and not Path(name).is_dir():
        return stock_form(timm_name(name))
    config = hub_config(name) if is_on_hub(name) else folder_config(Path(name))
    if "limbeck" in config:
        folder = encoder_folder(name)
        return from_json(BackboneConfig, read_encoder_config(folder)["backbone"], f"{folder}/config.json")
    return _form(*_timm_config(name, config), None)


def stock_form(name: str, size: int | None = None, args: Mapping[str, Any] | None = None) -> BackboneConfig:
    """Return the configuration of timm's network as timm builds it, by default at the input size of its weights."""
    return BackboneConfig(
        name=name,
        image_size=size or timm_defaults(name).input_size[-1],
        args=dict(args or {}),
        small_stem=False,
        init="timm",
        sincos_positions=False,
    )


def folder_config(folder: Path) -> dict[str, Any]:
    """Return the contents of the config.json of a network's folder; of a run, that of its encoder.

    Raises:
        UserError: there is none, or it is not that of Limbeck, timm or Hugging Face.
    """
    file = (folder / ENCODER if (folder / ENCODER).is_dir() else folder) / "config.json"
    if not file.is_file():
        raise UserError(
            f"'{folder}' is not a network: it has no config.json (and no folder encoder/, as a run has)",
            code="not-a-network",
        )
    config = read_json(file)
    if isinstance(config, dict) and {"method", "training"} <= {*config}:
        raise UserError(
            f"'{folder}' is a run that has written no encoder yet: `limbeck resume {folder}` continues it",
            code="not-a-network",
        )
    if not isinstance(config, dict) or not {"limbeck", "architecture", "model_type"} & {*config}:
        raise UserError(
            f"'{folder}' is not a network: its config.json is not that of Limbeck, timm or Hugging Face",
            code="not-a-network",
        )
    return config


def is_transformers(config: Mapping[str, Any]) -> bool:
    """Return whether the config.json of a folder is that of a Hugging Face model in the format of transformers."""
    return not {"limbeck", "architecture"} & {*config}


def _from_limbeck(ref: NetworkRef) -> Pretrained:
    """Return the encoder of a run, an encoder folder, or an export for timm, here or on the hub."""
    folder = encoder_folder(ref.name)
    backbone, preprocessing = load(folder, ref.depth), load_preprocessing(folder)
    size: int | None = ref.image_size
    notes: tuple[str, ...] = ()
    if size is not None and size != preprocessing.image_size and timm_defaults(backbone.cfg.name).fixed_input_size:
        backbone = resized(backbone, size, ref.name)
        notes = (_resampled(ref.name, preprocessing.image_size, size),)
    interpolation = as_interpolation(preprocessing.interpolation)
    stated = StatedPreprocessing(preprocessing.image_size, preprocessing.mean, preprocessing.std, interpolation)
    license = inherited_license(read_encoder_config(folder).get("provenance")) or license_in_card(folder)
    return Pretrained(backbone, stated, license, notes)


def resized(backbone: Backbone, size: int, name: str) -> Backbone:
    """Return a backbone of fixed input size for images of another one; timm resamples its positions, in place.

    Raises:
        UserError: the network called `name` cannot be resized, or `size` is no multiple of its patches.
    """
    model = timm_network(backbone.model)
    patch = model.patch_embed.patch_size[0] if hasattr(model, "patch_embed") else 1
    if size < patch or size % patch:
        near = " and ".join(str(number * patch) for number in (size // patch, size // patch + 1) if number)
        raise UserError(
            f"{size} pixels are no multiple of the {patch} pixels of a patch of '{name}': choose another image size, "
            f"such as {near}",
            code="image-size-not-a-multiple-of-patch-size",
        )
    if not callable(getattr(model, "set_input_size", None)):
        own = backbone.cfg.image_size
        raise UserError(
            f"'{name}' takes images of {own} pixels only, not of {size}: leave the image size out",
            code="weights-mismatch",
        )
    model.set_input_size(img_size=(size, size))
    backbone.cfg = replace(backbone.cfg, image_size=size)
    return backbone


def _from_timm_name(ref: NetworkRef) -> Pretrained:
    """Return a model of timm's registry with timm's weights, which are downloaded."""
    name = timm_name(ref.name)
    known = timm_defaults(name)
    if not known.has_weights:
        raise UserError(
            f"timm has no weights for '{name}': give a file with them, or another network", code="no-weights"
        )
    form = stock_form(name, ref.image_size)
    backbone = _cut(_build(form, None, "timm"), ref.depth)
    return Pretrained(
        backbone, _stated(vars(known), form.image_size), known.license or "", _changed(ref.name, known, form)
    )


def timm_name(name: str) -> str:
    """Return the name of a timm model without `timm:`; UserError if there is none."""
    found = name.removeprefix(TIMM)
    if not timm.is_model(found):
        meant = did_you_mean(found, timm.list_models())
        ways = f": `limbeck runs` lists runs, and a model of timm is named {TIMM}NAME, such as {TIMM}resnet18"
        raise UserError(
            f"'{name}' is neither a folder nor a timm model{meant or ways}",
            code="unknown-network",
        )
    return found


def _from_timm_folder(ref: NetworkRef, config: dict[str, Any]) -> Pretrained:
    """Return the model of a folder in timm's format (`timm.models.save_for_hf`), whose config.json holds `config`."""
    folder = Path(ref.name)
    found = _timm_config(folder, config)
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    preferred = [path for path in files if path.name == "model.safetensors"] or files
    if not preferred:
        raise UserError(
            f"'{folder}' has a config.json of timm's but no weights: model.safetensors is missing", code="no-weights"
        )
    return _described(ref, found, read_weights(preferred[0]), license_in_card(folder))


def _timm_config(name: str | Path, config: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, dict[str, Any]]:
    """Return (timm's record of the weights, architecture, arguments) from a config.json in timm's format."""
    if is_transformers(config):
        raise UserError(
            f"'{name}' is a model of transformers, which can be a teacher only: name one in timm's format",
            code="not-a-network",
        )
    known, args = config.get("pretrained_cfg", config), config.get("model_args", {})
    if not isinstance(known, dict) or not isinstance(args, dict):
        raise UserError(
            f"'{name}/config.json' is not as timm writes it: pretrained_cfg and model_args must be objects",
            code="not-a-network",
        )
    return known, str(config["architecture"]), args


def _from_hub(ref: NetworkRef) -> Pretrained:
    """Return the model of a repository in timm's format on the Hugging Face hub."""
    found = _timm_config(ref.name, hub_config(ref.name))
    repository, revision = split_name(ref.name)
    try:
        check_obtainable(ref.name, repository, revision)
        weights = timm.models.load_state_dict_from_hf(ref.name.removeprefix(HUB), weights_only=True)
    except LOADING_ERRORS as error:
        raise unreachable(ref.name, error) from error
    return _described(ref, found, weights, "")


def _described(
    ref: NetworkRef, found: tuple[Mapping[str, Any], str, dict[str, Any]], weights: dict[str, Tensor], card: str
) -> Pretrained:
    """Return the network of a configuration in timm's format, with the weights next to it."""
    known, name, _ = found
    form = _form(*found, ref.image_size)
    weights = without_classifier(weights, known.get("classifier") or timm_defaults(name).classifier)
    backbone = _cut(_build(form, weights, ref.name), ref.depth)
    return Pretrained(
        backbone, _stated(known, form.image_size), known.get("license") or card, _changed(ref.name, known, form)
    )


def _form(known: Mapping[str, Any], name: str, args: dict[str, Any], size: int | None) -> BackboneConfig:
    size = size or known.get("input_size", timm_defaults(name).input_size)[-1]
    return stock_form(
        name, size, {key: size if key == "img_size" else value for key, value in args.items() if key != "num_classes"}
    )


def _fitted(weights: dict[str, Tensor], form: BackboneConfig, file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the weights of a file under the names of timm's network, and what was changed."""
    with torch.random.fork_rng(devices=[]):  # only names and shapes matter
        shapes = {key: tensor.shape for key, tensor in build_network(form).state_dict().items()}
    found, notes = fit_names(weights, shapes)
    if PATCHES in found and found[PATCHES].ndim == 4 and found[PATCHES].shape != shapes.get(PATCHES):
        raise UserError(  # which timm would resample without a word
            f"the weights of '{file}' do not fit '{form.name}': 1 of another shape ({PATCHES})", code="weights-mismatch"
        )
    if (positions := found.get("pos_embed")) is not None and "register_tokens" not in found:
        expected = shapes.get("pos_embed", positions.shape)
        if positions.shape != expected:
            notes = [*notes, f"{positions.shape[1]} positions resampled to {expected[1]}"]
    return found, tuple(f"{file.name}: {note}" for note in notes)


def _build(form: BackboneConfig, weights: dict[str, Tensor] | None, source: str) -> Backbone:
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
        owner = "timm" if weights is None else f"'{source}'"
        raise UserError(
            f"the weights of {owner} do not fit '{form.name}' at {form.image_size} pixels: {mismatch(error)}",
            code="weights-mismatch",
        ) from error
    if not callable(getattr(model, "forward_intermediates", None)):
        raise UserError(
            f"'{form.name}' has no forward_intermediates in timm, which taps and feature maps need: choose another",
            code="unsupported-network",
        )
    return Backbone(form, model)


def _network(form: BackboneConfig, weights: dict[str, Tensor] | None) -> Any:
    """Return the network with its weights; with a stem for small images, which timm does not know, as it was saved."""
    if weights is not None and wants_small_stem(form):
        model = build_network(form)
        model.load_state_dict(weights)
        return model
    check_name(form.name)
    if weights is None:
        check_obtainable(form.name, timm_defaults(form.name).hf_hub_id)
    overlay = {} if weights is None else {"state_dict": weights, "classifier": None, "custom_load": False}
    model = timm.create_model(form.name, pretrained=True, pretrained_cfg_overlay=overlay, **stock_args(form))
    if weights is not None and timm.models.is_model_in_modules(form.name, LENIENT):
        model.load_state_dict(weights)
    model.pretrained_cfg.pop("state_dict", None)
    return model


def _cut(backbone: Backbone, depth: int | None) -> Backbone:
    return backbone if depth is None else backbone.cut(depth)


def _stated(known: Mapping[str, Any], size: int | None) -> StatedPreprocessing:
    mean, std = (triple(known.get(key)) for key in ("mean", "std"))
    return StatedPreprocessing(size, mean, std, as_interpolation(known.get("interpolation")))


def _agreed(arch: str) -> dict[str, Any]:
    """Return the input settings on which timm's records agree for all weights of a network; none where they differ."""
    tags = [*timm.list_pretrained(f"{arch}.*"), arch]
    known = [vars(timm_defaults(name)) for name in tags]
    first = {key: known[0][key] for key in ("mean", "std", "interpolation")}
    return {key: value for key, value in first.items() if all(cfg[key] == value for cfg in known)}


def _changed(name: str, known: Any, form: BackboneConfig) -> tuple[str, ...]:
    """Return that positions were resampled, if the network has positions and another size than its weights."""
    size = known.get("input_size") if isinstance(known, Mapping) else known.input_size
    own = (size or timm_defaults(form.name).input_size)[-1]
    if form.image_size in (None, own) or not timm_defaults(form.name).fixed_input_size:
        return ()
    return (_resampled(name, own, form.image_size),)


def _resampled(name: str, own: int, size: int | None) -> str:
    return f"{name}: positions resampled from images of {own} pixels to {size}"


def as_interpolation(name: Any) -> Interpolation:
    """Return the interpolation of that name; bicubic in place of any other."""
    return "bilinear" if name == "bilinear" else "bicubic"


def triple(values: Any) -> Triple | None:
    """Return three numbers from a configuration as a tuple; None for anything else."""
    if not isinstance(values, list | tuple) or len(values) != 3:
        return None
    first, second, third = map(float, values)
    return first, second, third
