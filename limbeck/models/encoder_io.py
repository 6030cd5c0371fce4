"""Encoders on disk: the weights, a config that timm reads, and what Limbeck needs to load them at any depth."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from limbeck.core.config import from_json, to_json
from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, read_json, write_json
from limbeck.core.run_folder import ENCODER, STAGE
from limbeck.models.backbone import Backbone, build_backbone, create_model, stock_args, wants_small_stem
from limbeck.models.config import BackboneConfig
from limbeck.models.hub import hub_encoder, is_on_hub
from limbeck.models.surgery import feature_table, is_own, timm_defaults, timm_network
from limbeck.models.weights import without_classifier

logger = logging.getLogger(__name__)

TAP_NORMS = "tap_norms.safetensors"  # of an encoder with `per_layer_norm`; timm needs the last norm only
JOINED = "patch_filters.safetensors"  # what is joined with the features of an encoder
STANDALONE = "model.py"  # of an encoder that stock timm cannot build: the lines that load it
STANDALONE_CNN = "plain_cnn.py"  # what these lines need of the network that timm does not have
STANDALONE_FILTERS = "standalone_filters.py"  # what these lines need of a network that is joined with patch filters
NOT_IN_TIMM = "limbeck"  # architecture of such an encoder in its config.json, which timm refuses


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From an image to the network's input: squeeze to a square, crop the center, scale to [0, 1], normalize."""

    image_size: int  # side of the network's input, pixels
    store_size: int  # side of the square that the image is squeezed to, whatever its aspect ratio
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    crop_mode: str = "squash"  # timm's word for squeezing

    @property
    def crop_pct(self) -> float:
        """Fraction of the square's side in the crop, as in `augment.apply.eval_view`: 7/8, or more if needed."""
        side = min(self.store_size, max(self.image_size, self.store_size * 7 // 8))
        fraction = side / self.store_size
        # timm squeezes to floor(size / fraction), which rounding errors must not take below the store's size
        return math.nextafter(fraction, 0) if side == self.image_size else fraction


def save_encoder(backbone: Backbone, folder: Path, preprocessing: Preprocessing, provenance: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json, which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    A network that stock timm cannot build gets model.py as well, which loads it with timm and no Limbeck.
    `provenance` (JSON values) says where the encoder comes from.
    """
    make_folder(folder)
    name, args = timm_format(backbone)
    _write_weights(timm_network(backbone.model).state_dict(), folder / "model.safetensors")
    if backbone.tap_norms:
        _write_weights(backbone.tap_norms.state_dict(), folder / TAP_NORMS)
    if backbone.joined:
        _write_weights(backbone.joined.state_dict(), folder / JOINED)
        _copy_code(STANDALONE_FILTERS, folder / STANDALONE_FILTERS)
    if is_own(backbone.cfg.name):
        _copy_code(STANDALONE_CNN, folder / STANDALONE_CNN)
    if name == NOT_IN_TIMM:
        _copy_code("standalone.py", folder / STANDALONE)
    extra = {"backbone": to_json(backbone.cfg), "preprocessing": asdict(preprocessing), "provenance": dict(provenance)}
    config = _timm_config(name, args, backbone.dim, preprocessing) | {"limbeck": extra}
    write_json(folder / "config.json", config)


def _copy_code(name: str, target: Path) -> None:
    """Write a module of this package, which needs no other, next to the weights."""
    with atomic_write(target) as unfinished:
        unfinished.write_bytes(Path(__file__).with_name(name).read_bytes())


def timm_format(backbone: Backbone) -> tuple[str, dict[str, Any]]:
    """Return (name, arguments) for `timm.create_model`, or those that `standalone.py` reads where timm has none."""
    args = _stock_args(backbone)
    if args is not None:
        return backbone.cfg.name, args
    cfg, small = backbone.cfg, wants_small_stem(backbone.cfg)
    last = None if cfg.cut is None else feature_table(backbone.model)[cfg.cut - 1][0]
    built = {"arch": cfg.name, "args": stock_args(cfg), "vit": backbone.is_vit, "last": last}
    normalization = cfg.normalization if cfg.patch_filters else None
    return NOT_IN_TIMM, built | {
        "small_stem": small, "stem_pool": small and cfg.stem_pool, "patch_filters": normalization
    }  # fmt: skip


def _stock_args(backbone: Backbone) -> dict[str, Any] | None:
    """Return arguments with which stock timm builds a network of the same parameters, or None if there are none."""
    cfg, network = backbone.cfg, timm_network(backbone.model)
    if wants_small_stem(cfg) or cfg.patch_filters or is_own(cfg.name):
        return None
    args = stock_args(cfg)
    if cfg.cut is None:
        return args
    args |= _cut_args(backbone, network)
    try:
        with torch.random.fork_rng(devices=[]):  # only the shapes of the random start matter
            stock = create_model(cfg.name, args)
    except UserError:
        return None
    return args if _shapes(stock) == _shapes(network) else None


def _cut_args(backbone: Backbone, network: Any) -> dict[str, Any]:
    """Return timm arguments that may express a cut: `depth` of a ViT, `layers` of a ResNet (0 for the identity)."""
    depth = backbone.taps[-1]
    if backbone.is_vit:
        return {"depth": depth}
    if not timm.models.is_model_in_modules(backbone.cfg.name, ("resnet",)) or depth == 4:
        return {}
    stages = [network.layer1, network.layer2, network.layer3][:depth]
    layers = [len(stage) for stage in stages]
    if sum(layers) == 1:  # timm divides by the number of blocks minus one
        return {}
    widths = [channels // stages[0][0].expansion for _, channels in feature_table(network)][:depth]
    return {"layers": layers + [0] * (4 - depth), "channels": widths + widths[-1:] * (4 - depth)}


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _write_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(file) as path:
        path.write_bytes(save(on_cpu, metadata={"format": "pt"}))  # save_file hides why a disk refused it


def load(path: str | os.PathLike[str], depth: int | None = None) -> Backbone:
    """Load the backbone of a run folder, an encoder folder or a timm export, cut at `depth` if given.

    Of a run that has not ended, it is the encoder of its last checkpoint, which a warning says. "hf-hub:OWNER/NAME" is
    what `limbeck push` has sent to the Hugging Face hub.

    Raises:
        UserError: nothing to load at `path`, weights that do not fit, a depth that the network does not have, or a hub
            that has no such network or cannot be reached.
    """
    folder = encoder_folder(path)
    if stage := training_stage(folder):
        logger.warning("'%s' has not ended: this is its encoder at %s", path, stage)
    cfg = from_json(BackboneConfig, read_encoder_config(folder)["backbone"], f"{folder}/config.json")
    with torch.random.fork_rng(devices=[]):  # the random start is overwritten
        backbone = build_backbone(replace(cfg, gradient_checkpointing=False))
    try:
        weights = without_classifier(load_file(folder / "model.safetensors"), timm_defaults(cfg.name).classifier)
        timm_network(backbone.model).load_state_dict(weights)
        if backbone.tap_norms:
            backbone.tap_norms.load_state_dict(load_file(folder / TAP_NORMS))
        if backbone.joined:
            backbone.joined.load_state_dict(load_file(folder / JOINED))
    except (OSError, RuntimeError, SafetensorError) as error:
        message = f"{folder}/model.safetensors is not the network of its config.json: {error}"
        raise UserError(message, code="damaged-encoder") from error
    return backbone if depth is None else backbone.cut(depth)


def load_preprocessing(path: str | os.PathLike[str]) -> Preprocessing:
    """Load the preprocessing of the encoder at `path` (as for `load`)."""
    folder = encoder_folder(path)
    return from_json(Preprocessing, read_encoder_config(folder)["preprocessing"], f"{folder}/config.json")


def encoder_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of an encoder: RUN/encoder of a run, or `path` itself; UserError where there is none.

    Of a name on the hub it is the folder in the cache of `huggingface_hub` that its files were downloaded to.
    """
    if is_on_hub(path):
        return hub_encoder(os.fspath(path))
    inner = Path(path) / ENCODER
    folder = inner if inner.is_dir() else Path(path)
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        message = f"{path} has no encoder (config.json and model.safetensors): give a run, its encoder or an export"
        raise UserError(message, code="no-encoder")
    return folder


def _timm_config(name: str, args: dict[str, Any], dim: int, preprocessing: Preprocessing) -> dict[str, Any]:
    known = timm_defaults(name if name != NOT_IN_TIMM else args["arch"])
    return {
        "architecture": name,
        "num_classes": 0,
        "num_features": dim,
        "model_args": args,
        "pretrained_cfg": {
            "num_classes": 0,
            "input_size": [3, preprocessing.image_size, preprocessing.image_size],
            "fixed_input_size": known.fixed_input_size,
            "crop_pct": preprocessing.crop_pct,
            "crop_mode": preprocessing.crop_mode,
            "interpolation": preprocessing.interpolation,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "first_conv": known.first_conv,
            "classifier": known.classifier,
        },
    }


def training_stage(folder: Path) -> str:
    """Return the progress of an encoder folder's run, as in `"step 37 of 300"`; empty if it had ended."""
    content = read_json(folder / "config.json", "export the encoder again")
    found = content.get("limbeck") if isinstance(content, dict) else None
    provenance = found.get("provenance") if isinstance(found, dict) else None
    where = provenance.get(STAGE) if isinstance(provenance, dict) else None
    return where if isinstance(where, str) else ""


def read_encoder_config(folder: Path) -> dict[str, Any]:
    """Return Limbeck's part of an encoder's config: `backbone`, `preprocessing`, `provenance`; UserError without it."""
    content = read_json(folder / "config.json", "export the encoder again")
    found = content.get("limbeck") if isinstance(content, dict) else None
    if not isinstance(found, dict):
        message = f"{folder} was not written by Limbeck; load it with timm, or start a run from it with --from"
        raise UserError(message, code="not-a-limbeck-encoder")
    if "modality" in found:
        message = (
            f"{folder} has an encoder of {found['modality']}, and this is for encoders of images: give one of them"
        )
        raise UserError(message, code="not-images")
    if missing := [key for key in ("backbone", "preprocessing") if key not in found]:
        message = f"{folder}/config.json lacks '{missing[0]}'; export the encoder again"
        raise UserError(message, code="damaged-encoder")
    return found
