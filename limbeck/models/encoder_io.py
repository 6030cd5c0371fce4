"""An encoder on disk: the weights and a config that timm reads, with what Limbeck needs to load it at any depth."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from limbeck.core.config import from_json, to_json
from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, read_json
from limbeck.core.run_folder import ENCODER
from limbeck.models.backbone import Backbone, BackboneConfig, build_backbone, timm_recipe
from limbeck.models.surgery import timm_defaults

TAP_NORMS = "tap_norms.safetensors"  # of an encoder with `per_layer_norm`; timm needs the last norm only


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From an image to the network's input: squeezed to a square, its centre kept, scaled to [0, 1], normalised."""

    image_size: int  # side of the network's input, pixels
    store_size: int  # side of the square that the image is squeezed to, whatever its aspect ratio
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    crop_mode: str = "squash"  # timm's word for squeezing

    @property
    def crop_pct(self) -> float:
        """Share of the square's side that is kept, as in `augment.apply.eval_view`: 7/8, or more if `size` is."""
        side = min(self.store_size, max(self.image_size, self.store_size * 7 // 8))
        share = side / self.store_size
        # timm squeezes to floor(size / share), which rounding errors must not take below the store's size
        return math.nextafter(share, 0) if side == self.image_size else share


def save_encoder(backbone: Backbone, folder: Path, preprocessing: Preprocessing, note: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json, which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    A network that timm names `limbeck_backbone` needs `import limbeck.models.backbone` first. `note` (JSON values:
    where the encoder comes from) is kept in the config. An encoder that is there already is replaced, the config last.
    """
    make_folder(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.model.state_dict().items()}
    with atomic_write(folder / "model.safetensors") as path:
        path.write_bytes(save(weights, metadata={"format": "pt"}))  # save_file hides why a disk refused it
    norms = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.tap_norms.state_dict().items()}
    if norms:
        with atomic_write(folder / TAP_NORMS) as path:
            path.write_bytes(save(norms))
    config = _timm_config(backbone, preprocessing) | {
        "limbeck": {"backbone": to_json(backbone.cfg), "preprocessing": asdict(preprocessing), "note": dict(note)}
    }
    with atomic_write(folder / "config.json") as path:
        path.write_text(json.dumps(config, indent=2) + "\n")


def load(path: str | Path, depth: int | None = None) -> Backbone:
    """The backbone of a run folder, an encoder folder or a folder exported for timm, cut at `depth` if given.

    Raises:
        UserError: nothing to load at `path`, weights that do not fit, a depth that the network does not have.
    """
    folder = encoder_folder(path)
    cfg = from_json(BackboneConfig, read_encoder_config(folder)["backbone"], f"{folder}/config.json")
    with torch.random.fork_rng(devices=[]):  # the random start is overwritten
        backbone = build_backbone(replace(cfg, checkpointing=False, pretrained=False))
    try:
        backbone.model.load_state_dict(load_file(folder / "model.safetensors"))
        if backbone.tap_norms:
            backbone.tap_norms.load_state_dict(load_file(folder / TAP_NORMS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}/model.safetensors is not the network of its config.json: {error}") from error
    return backbone if depth is None else backbone.cut(depth)


def load_preprocessing(path: str | Path) -> Preprocessing:
    """What the encoder at `path` (as for `load`) expects of an image."""
    folder = encoder_folder(path)
    return from_json(Preprocessing, read_encoder_config(folder)["preprocessing"], f"{folder}/config.json")


def encoder_folder(path: str | Path) -> Path:
    """The folder that holds the encoder: RUN/encoder of a run, or `path` itself; UserError where there is none."""
    inner = Path(path) / ENCODER
    folder = inner if inner.is_dir() else Path(path)
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise UserError(
            f"{path} holds no encoder (config.json and model.safetensors); give a run, its encoder or a timm export."
        )
    return folder


def _timm_config(backbone: Backbone, preprocessing: Preprocessing) -> dict[str, Any]:
    name, args = timm_recipe(backbone.cfg)
    known = timm_defaults(name)
    return {
        "architecture": name,
        "num_classes": 0,
        "num_features": backbone.dim,
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


def read_encoder_config(folder: Path) -> dict[str, Any]:
    """Our part of an encoder's config: `backbone`, `preprocessing`, `note`; UserError where there is none."""
    content = read_json(folder / "config.json", "export the encoder again")
    ours = content.get("limbeck") if isinstance(content, dict) else None
    if not isinstance(ours, dict):
        raise UserError(f"{folder} was not written by Limbeck; load it with timm, or name it as a pretrained backbone.")
    if missing := [key for key in ("backbone", "preprocessing") if key not in ours]:
        raise UserError(f"{folder}/config.json lacks '{missing[0]}'; export the encoder again")
    return ours
