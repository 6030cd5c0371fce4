"""Any network as a frozen encoder of images: a run, an encoder, an export for timm or ONNX, a name, a folder."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from limbeck.core.config import to_json
from limbeck.core.devices import Precision, resolve_bf16
from limbeck.core.encoder_modality import encoder_modality
from limbeck.core.errors import UserError
from limbeck.core.types import Features
from limbeck.data.store.store import Store
from limbeck.features.images import ImageFn, eval_images
from limbeck.keypoints.config import DEPTH, NORMALIZATION
from limbeck.keypoints.encoder_io import load_detector
from limbeck.keypoints.places import whole_images
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import encoder_folder, load_preprocessing
from limbeck.models.pretrained import Interpolation, Triple
from limbeck.models.weights import digest
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.from_pretrained import TimmTeacher
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.load import load_teacher

WHOLE = 0
"""The depth of a network that has no depths of its own."""


class FrozenEncoder(ABC):
    """A network that maps images to vectors at one depth or several, with its own preprocessing.

    Attributes:
        name: as the user gave it.
        digest: of weights, architecture and size of the input; other weights have another one.
        dims: width of the vectors, by depth.
        image_size: side of the input, pixels.
        mean, std: of the channels, for pixels in [0, 1].
        store_size: side of the stored images that it was trained on, pixels; None where that is not known.
        aligned_to: digest of the network that its vectors can be compared with, if that is another one.
    """

    name: str
    digest: str
    dims: Mapping[int, int]
    image_size: int
    mean: Triple
    std: Triple
    interpolation: Interpolation = "bilinear"
    store_size: int | None = None
    aligned_to: str = ""

    @abstractmethod
    def features(self, images: Tensor, depths: Sequence[int], feature_maps: bool = False) -> Features:
        """Map images [B 3 H W], as `images` makes them, to vectors [B D] and, if requested, maps [B C H W]."""

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move the weights, if they can be moved."""

    def images(self, store: Store, device: torch.device) -> ImageFn:
        """Return the function from rows of `store` to the input of `features`."""
        return eval_images(store, self.image_size, self.mean, self.std, device, self.interpolation)

    @property
    def label(self) -> str:
        """The name for files and pages that travel: of a folder its last part, without the way to it."""
        path = Path(self.name)
        return path.resolve().name if path.exists() else self.name

    @property
    def last(self) -> int:
        """The last depth."""
        return max(self.dims)

    def check_depths(self, depths: Sequence[int]) -> None:
        """Raise UserError for a depth that there is none of."""
        for depth in depths:
            if depth not in self.dims:
                known = f"{min(self.dims)} to {self.last}" if len(self.dims) > 1 else str(self.last)
                raise UserError(f"depth {depth} is not in '{self.name}': choose {known}", code="depth-out-of-range")


class BackboneEncoder(FrozenEncoder):
    """A backbone at any of its depths, as an evaluation runs it."""

    def __init__(self, loaded: LoadedTeacher, backbone: Backbone, precision: Precision) -> None:
        self.name, self.digest, self.dims = loaded.cfg.name, loaded.digest, backbone.tap_dims
        self.license = loaded.license
        self.image_size, self.mean, self.std = loaded.image_size, loaded.mean, loaded.std
        self.interpolation, self.store_size = loaded.interpolation, _store_size(loaded.cfg.name)
        self.backbone, self._precision = backbone.eval(), precision

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.backbone.to(device)

    def features(self, images: Tensor, depths: Sequence[int], feature_maps: bool = False) -> Features:
        """Run one forward pass in evaluation mode."""
        kind = images.device.type
        bf16 = resolve_bf16(self._precision, images.device)
        with torch.inference_mode(), torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16):
            found: Features = self.backbone(images, tuple(depths), feature_maps)
        return found


class WholeEncoder(FrozenEncoder):
    """A network without depths, such as a model of Hugging Face's."""

    def __init__(self, loaded: LoadedTeacher) -> None:
        self.name, self.digest, self.dims = loaded.cfg.name, loaded.digest, {WHOLE: loaded.dim}
        self.image_size, self.mean, self.std = loaded.image_size, loaded.mean, loaded.std
        self.interpolation, self._network = loaded.interpolation, loaded.network

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self._network.to(device)

    def features(self, images: Tensor, depths: Sequence[int], feature_maps: bool = False) -> Features:
        """Run one forward pass."""
        found = self._network(images, feature_maps)
        maps = {} if found.feature_map is None else {WHOLE: found.feature_map}
        return Features(found.vector, {WHOLE: found.vector}, maps)


class KeypointEncoder(FrozenEncoder):
    """A keypoint detector, whose vectors are (row, column) of every keypoint, from -1 to 1; it needs all blocks."""

    def __init__(self, reference: str) -> None:
        self.name, self._detector = reference, load_detector(reference)
        cfg = self._detector.cfg
        self.digest = digest(self._detector, {"encoder": to_json(cfg)})
        self.dims, self.image_size = {DEPTH: self._detector.dim}, cfg.image_size
        self.mean = self.std = NORMALIZATION

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self._detector.to(device)

    def images(self, store: Store, device: torch.device) -> ImageFn:
        """Return whole images, or the middle of those that are not square, as in training."""
        return whole_images(store, self.image_size, device)[0]

    def features(self, images: Tensor, depths: Sequence[int], feature_maps: bool = False) -> Features:
        """Run one forward pass; maps are heat maps."""
        with torch.inference_mode():
            found: Features = self._detector(images, tuple(depths), feature_maps)
        return found


def load_encoder(
    reference: str | os.PathLike[str], precision: Literal["auto", "bf16", "fp32"] = "auto"
) -> FrozenEncoder:
    """Return the network that `reference` names, frozen, on the CPU.

    Args:
        reference: a run, an encoder, an export (timm or ONNX), a folder of timm's or Hugging Face's, a timm model
            ("timm:NAME"), or "hf-hub:OWNER/MODEL"; of images, or a detector of keypoints in them.
        precision: of the forward pass; "auto" is bf16 where the hardware computes in it.

    Raises:
        UserError: there is no such network, its weights cannot be loaded, or its preprocessing is unknown.
    """
    from limbeck.embeddings.onnx import OnnxEncoder, is_onnx

    if not isinstance(reference, str | os.PathLike):
        raise UserError(f"the network is {reference!r}: give a name, or the folder of a run", code="wrong-type")
    if encoder_modality(reference) == "keypoints":
        return KeypointEncoder(os.fspath(reference))
    if is_onnx(Path(reference)):
        return OnnxEncoder(Path(reference))
    loaded = load_teacher(TeacherConfig(name=os.fspath(reference), precision=precision))
    network = loaded.network.network
    if isinstance(network, TimmTeacher):
        return BackboneEncoder(loaded, network.backbone, precision)
    return WholeEncoder(loaded)


def load_features(
    reference: str | os.PathLike[str], precision: Literal["auto", "bf16", "fp32"] = "auto"
) -> FrozenEncoder:
    """Return what `load_encoder` does where the vectors are compared as features; UserError for places of keypoints."""
    if isinstance(reference, str | os.PathLike) and encoder_modality(reference) == "keypoints":
        raise UserError(
            f"'{os.fspath(reference)}' has a detector, whose vectors are places of keypoints and no features of an "
            "image: give a run on images (`limbeck embed` writes the places)",
            code="no-features",
        )
    return load_encoder(reference, precision)


def _store_size(name: str) -> int | None:
    """Return the side of the images that an encoder of Limbeck's was trained on."""
    try:
        return load_preprocessing(encoder_folder(name)).store_size
    except UserError:
        return None
