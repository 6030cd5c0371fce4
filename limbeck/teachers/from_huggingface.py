"""Teachers from Hugging Face vision models in a folder, read with `transformers`; no code in the folder is executed."""

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
from limbeck.core.packages import require
from limbeck.models.licenses import license_in_card
from limbeck.models.pretrained import Interpolation, StatedPreprocessing, triple
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import TeacherFeatures, TeacherSource
from limbeck.teachers.huggingface_safety import check_folder

PROCESSOR = "preprocessor_config.json"
VISION_PART = "vision_model"  # of models of images and text, such as CLIP
BILINEAR = 2  # in PIL's numbering of filters, which `resample` uses
NOT_THE_NETWORK = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


class HuggingFaceTeacher(nn.Module):
    """A vision model: its pooled output, or else its CLS token, or the mean of its tokens.

    A pooler is not used if its weights are missing in the folder. The feature map is the last hidden state; of tokens,
    those of the patches if they form a square.
    """

    def __init__(self, model: Any, has_pooler: bool) -> None:
        super().__init__()
        self.model, self.has_pooler = model, has_pooler
        arguments = inspect.signature(model.forward).parameters
        self.resamples = "interpolate_pos_encoding" in arguments  # else the model accepts no other size than its own
        self.patch = _side(getattr(model.config, "patch_size", None))
        registers = getattr(model.config, "num_register_tokens", None) or 0
        self.max_prefix_tokens = 2 + registers  # CLS, distillation

    def forward(self, images: Tensor, feature_map: bool) -> TeacherFeatures:
        """Map [B 3 S S] to [B D] and, if requested and there, [B D H W]."""
        output = self.model(pixel_values=images, **({"interpolate_pos_encoding": True} if self.resamples else {}))
        hidden, pooled = output.last_hidden_state, getattr(output, "pooler_output", None) if self.has_pooler else None
        if hidden.ndim == 4:
            vector = hidden.mean(dim=(2, 3)) if pooled is None else pooled.flatten(1)
            return TeacherFeatures(vector, hidden if feature_map else None)
        side = self._grid_side(hidden.shape[1], images.shape[-1])
        has_prefix = side is not None and side * side < hidden.shape[1]
        vector = pooled if pooled is not None else hidden[:, 0] if has_prefix else hidden.mean(dim=1)
        if not feature_map or side is None:
            return TeacherFeatures(vector)
        patches = hidden[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        return TeacherFeatures(vector, patches.contiguous())

    def _grid_side(self, tokens: int, size: int) -> int | None:
        """Return the side of the square of patches that ends the `tokens`; None if they form none."""
        side = size // self.patch if self.patch else 0
        if side and 0 <= tokens - side * side <= self.max_prefix_tokens:
            return side
        root = math.isqrt(tokens)
        return root if root * root == tokens else None


def from_huggingface(cfg: TeacherConfig, config: dict[str, Any]) -> TeacherSource:
    """Return the model in folder `cfg.name`, whose config.json holds `config`; its vision part if it reads text too.

    Raises:
        UserError: `transformers` is not installed or cannot build the model, weights are missing, or the model has no
            vision part.
    """
    folder = Path(cfg.name)
    model, missing = _load(folder, config)
    if "vision_config" in config and not config["model_type"].endswith("vision_model"):
        model = getattr(model, VISION_PART, None)
        missing = [name.removeprefix(f"{VISION_PART}.") for name in missing if name.startswith(f"{VISION_PART}.")]
    if model is None or model.main_input_name != "pixel_values":
        raise UserError(
            f"'{folder}' ({config['model_type']}) contains no vision model that can be a teacher",
            code="not-a-vision-model",
        )
    if lost := [name for name in missing if not name.startswith("pooler.")]:
        raise UserError(
            f"the weights in '{folder}' lack {len(lost)} of the network's names: {', '.join(lost[:3])}",
            code="weights-mismatch",
        )
    identity = {key: value for key, value in config.items() if key not in NOT_THE_NETWORK}
    license = license_in_card(folder) or str(config.get("license") or "")
    stated = _stated(folder, _side(getattr(model.config, "image_size", None)))
    network = HuggingFaceTeacher(model.float(), has_pooler=not missing)
    return TeacherSource(network, stated, license, identity, network.patch)


def _load(folder: Path, config: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the model and the names of the weights that the folder lacks."""
    require("huggingface", "transformers", purpose=f"the Hugging Face model in '{folder}'")
    from transformers import AutoModel

    check_folder(folder, config)
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"transformers cannot read the model in '{folder}': {one_line(error)}", code="weights-unreadable"
        ) from error
    return model, sorted(report["missing_keys"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off transformers' progress bars and its report on unused heads."""
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


def _stated(folder: Path, size: int | None) -> StatedPreprocessing:
    """Read preprocessor_config.json: the crop if there is one, else the size to which images are resized."""
    file = folder / PROCESSOR
    if not file.is_file():
        return StatedPreprocessing(size, None, None)
    stated = read_json(file)
    cropped = stated.get("do_center_crop", False) and stated.get("crop_size")
    image_size = _side(stated["crop_size"] if cropped else stated.get("size")) or size
    filters: Interpolation = "bilinear" if stated.get("resample", BILINEAR) == BILINEAR else "bicubic"
    if not _scales_to_one(stated):
        return StatedPreprocessing(image_size, None, None, filters)
    if not stated.get("do_normalize", True):
        return StatedPreprocessing(image_size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), filters)
    mean, std = (triple(stated.get(key)) for key in ("image_mean", "image_std"))
    return StatedPreprocessing(image_size, mean, std, filters)


def _scales_to_one(stated: dict[str, Any]) -> bool:
    """Return whether pixels are scaled to [0, 1] before they are normalized, as in Limbeck."""
    factor = stated.get("rescale_factor", 1 / 255)
    return (
        stated.get("do_rescale", True)
        and not stated.get("rescale_offset", False)
        and math.isclose(factor, 1 / 255, rel_tol=1e-3)
    )


def _side(size: Any) -> int | None:
    """Return the pixels of a side, from the ways in which configurations write it; None for what is not a square."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or (size.get("height"), size.get("width"))
    if isinstance(size, list | tuple):
        size = size[0] if len(set(size)) == 1 else None
    return size if isinstance(size, int) else None
