"""Teachers that are Hugging Face vision models, read from a folder with `transformers`; nothing in it is executed."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from limbeck.core.errors import UserError, one_line
from limbeck.core.files import read_json
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import Found, Interpolation, Sight, TeacherFeatures, triple
from limbeck.teachers.huggingface_safety import check_folder
from limbeck.teachers.license import license_in_card

PROCESSOR = "preprocessor_config.json"
TOWER = "vision_model"  # of models of images and text, such as CLIP
BILINEAR = 2  # in PIL's numbering of filters, which `resample` uses
ABOUT_FILES = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")  # not the network


class HuggingFaceTeacher(nn.Module):
    """A vision model, answered by its pooled output, or by its CLS token or the mean of its tokens.

    A pooler whose weights the folder lacks is no answer. Maps are the last hidden state: of tokens, those of the
    patches where they make a square.
    """

    def __init__(self, model: Any, pooled: bool) -> None:
        super().__init__()
        self.model, self.pooled = model, pooled
        asked = inspect.signature(model.forward).parameters
        self.resamples = "interpolate_pos_encoding" in asked  # and the model checks its size unless it is told to
        extra = getattr(model.config, "num_register_tokens", None) or 0
        self.patch, self.most_prefixed = (
            _side(getattr(model.config, "patch_size", None)),
            2 + extra,
        )  # CLS, distillation

    def forward(self, images: Tensor, maps: bool) -> TeacherFeatures:
        """[B 3 S S] -> [B D] and, if asked for and there, [B D H W]."""
        said = self.model(pixel_values=images, **({"interpolate_pos_encoding": True} if self.resamples else {}))
        hidden, pooler = said.last_hidden_state, getattr(said, "pooler_output", None) if self.pooled else None
        if hidden.ndim == 4:
            return TeacherFeatures(
                hidden.mean(dim=(2, 3)) if pooler is None else pooler.flatten(1), hidden if maps else None
            )
        side = self._grid(hidden.shape[1], images.shape[-1])
        prefixed = side is not None and side * side < hidden.shape[1]
        vector = pooler if pooler is not None else hidden[:, 0] if prefixed else hidden.mean(dim=1)
        if not maps or side is None:
            return TeacherFeatures(vector)
        return TeacherFeatures(
            vector, hidden[:, -side * side :].transpose(1, 2).unflatten(2, (side, side)).contiguous()
        )

    def _grid(self, tokens: int, size: int) -> int | None:
        """Side of the square of patches that the last of `tokens` make; None if they make none."""
        sides = [size // self.patch] if self.patch else []
        found = [side for side in sides if 0 <= tokens - side * side <= self.most_prefixed]
        root = math.isqrt(tokens)
        return found[0] if found else root if root * root == tokens else None


def from_huggingface(cfg: TeacherConfig, config: dict[str, Any]) -> Found:
    """The model in folder `cfg.name`, whose config.json holds `config`; of a model of images and text, the images'.

    Raises:
        UserError: `transformers` is missing, a model that it cannot build, weights that are missing, no vision model.
    """
    folder = Path(cfg.name)
    model, missing = _load(folder, config)
    tower = model
    if "vision_config" in config and not config["model_type"].endswith("vision_model"):
        tower = getattr(model, TOWER, None)
        missing = [name.removeprefix(f"{TOWER}.") for name in missing if name.startswith(f"{TOWER}.")]
    if tower is None or tower.main_input_name != "pixel_values":
        raise UserError(f"'{folder}' ({config['model_type']}) holds no vision model that can be a teacher")
    if lost := [name for name in missing if not name.startswith("pooler.")]:
        raise UserError(f"the weights in '{folder}' lack {len(lost)} of the network's names: {', '.join(lost[:3])}")
    about = {key: value for key, value in config.items() if key not in ABOUT_FILES}
    license = license_in_card(folder) or str(config.get("license") or "")
    sight = _sight(folder, _side(getattr(tower.config, "image_size", None)))
    network = HuggingFaceTeacher(tower.float(), pooled=not missing)
    return Found(network, sight, license, about, network.patch)


def _load(folder: Path, config: dict[str, Any]) -> tuple[Any, list[str]]:
    """The model and the names of its weights that the folder does not have."""
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise UserError(
            f"'{folder}' is a Hugging Face model, which needs the package transformers: pip install transformers"
        ) from error
    check_folder(folder, config)
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise UserError(f"transformers cannot read the model in '{folder}': {one_line(error)}") from error
    return model, sorted(report["missing_keys"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and its report on heads that are not used."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _sight(folder: Path, size: int | None) -> Sight:
    """As preprocessor_config.json says: the crop if there is one, else the size to which images are resized."""
    file = folder / PROCESSOR
    if not file.is_file():
        return Sight(size, None, None)
    said = read_json(file)
    cropped = said.get("do_center_crop", False) and said.get("crop_size")
    found = _side(said["crop_size"] if cropped else said.get("size")) or size
    filters: Interpolation = "bilinear" if said.get("resample", BILINEAR) == BILINEAR else "bicubic"
    if not said.get("do_normalize", True):
        return Sight(found, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), filters) if _scaled(said) else Sight(found, None, None)
    mean, std = (triple(said.get(key)) if _scaled(said) else None for key in ("image_mean", "image_std"))
    return Sight(found, mean, std, filters)


def _scaled(said: dict[str, Any]) -> bool:
    """Whether pixels are brought to [0, 1] before they are normalised, as ours are."""
    factor = said.get("rescale_factor", 1 / 255)
    return (
        said.get("do_rescale", True)
        and not said.get("rescale_offset", False)
        and math.isclose(factor, 1 / 255, rel_tol=1e-3)
    )


def _side(size: Any) -> int | None:
    """Pixels of a side, from the ways in which configurations write it; None for what is no square."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or (size.get("height"), size.get("width"))
    if isinstance(size, list | tuple):
        size = size[0] if len(set(size)) == 1 else None
    return size if isinstance(size, int) else None
