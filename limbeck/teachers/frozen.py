"""A frozen network with its preprocessing, and its features of the images of a store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limbeck.core.devices import Precision, resolve_bf16
from limbeck.core.types import Dataset
from limbeck.data.sampling import ViewSpec
from limbeck.data.store.store import Store
from limbeck.features.extract import extract_matrix
from limbeck.features.images import ImageFn, eval_images
from limbeck.models.pretrained import Interpolation, StatedPreprocessing, Triple
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.side_by_side import side_by_side


class TeacherFeatures(NamedTuple):
    """Output of a teacher's network for a batch of images."""

    vector: Float[Tensor, "B D"]
    feature_map: Float[Tensor, "B C H W"] | None = None  # of its last block or stage; None unless requested and there


class TeacherSource(NamedTuple):
    """A network as its source provides it."""

    network: nn.Module  # (images [B 3 S S], whether a feature map is wanted) -> TeacherFeatures
    stated: StatedPreprocessing
    license: str  # "" if the source states none
    identity: Mapping[str, Any]  # JSON values that distinguish networks, besides their weights
    patch: int | None = None  # pixels, if the image size must be a multiple of them
    convolutional: bool = False
    fitted: bool = False  # to the images: the weights follow from the identity, up to rounding


class TeacherNetwork(nn.Module):
    """A network that stays in evaluation mode and without gradients: `train` has no effect.

    The forward pass runs in inference mode and in the teacher's own precision, also inside an autocast of the student;
    the features are ordinary float32 tensors, which a student's backward pass may save. With `batch_statistics`, its
    BatchNorms normalize with the statistics of the batch in training steps, and running statistics are neither used nor
    updated then. Convolutional networks run in channels-last memory format.
    """

    def __init__(
        self, network: nn.Module, *, precision: Precision, batch_statistics: bool, convolutional: bool
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.precision, self.batch_statistics, self.convolutional = precision, batch_statistics, convolutional
        self.train()

    def train(self, mode: bool = True) -> "TeacherNetwork":
        """Set evaluation mode, whatever `mode` is."""
        return super().train(False)

    def forward(
        self, images: Float[Tensor, "B *item"], feature_map: bool = False, training_step: bool = False
    ) -> TeacherFeatures:
        """Map normalized images [B 3 S S], or series, to vectors [B D] and, if requested, feature maps [B C H W]."""
        device = images.device
        bf16 = resolve_bf16(self.precision, device)
        by_batch = self._batch_statistics() if training_step and self.batch_statistics else nullcontext()
        with by_batch, torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            if self.convolutional:  # EfficientNet-Lite0 at 144 pixels on one CPU core: 13.8 ms instead of 21.2
                images = images.contiguous(memory_format=torch.channels_last)
            vector, found_map = self.network(images, feature_map)
        return TeacherFeatures(_ordinary(vector), None if found_map is None else _ordinary(found_map))

    @contextmanager
    def _batch_statistics(self) -> Iterator[None]:
        """Let BatchNorms use the statistics of the batch without updating the running ones."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        tracked = [norm.track_running_stats for norm in norms]
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        try:
            yield
        finally:
            for norm, was_tracked in zip(norms, tracked, strict=True):
                norm.training, norm.track_running_stats = False, was_tracked


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedTeacher:
    """A teacher: its network and its preprocessing."""

    cfg: TeacherConfig  # as the user gave it
    network: TeacherNetwork
    dim: int  # width of its vectors
    map_dim: int  # channels of its feature maps; 0 if it has none
    image_size: int  # pixels
    mean: Triple  # of the channels, for pixels in [0, 1]
    std: Triple
    interpolation: Interpolation
    digest: str  # of weights, architecture, depth, image size and the use of batch statistics
    license: str  # "" if unknown
    further: tuple["LoadedTeacher", ...] = ()  # whose vectors are appended; all else here is of the first teacher

    @property
    def members(self) -> tuple["LoadedTeacher", ...]:
        """Every teacher alone; of one teacher itself."""
        return (replace(self, further=()), *self.further) if self.further else (self,)

    @property
    def scales(self) -> tuple[float, ...]:
        """Factors of the unit vectors of `members`."""
        return self.cfg.scales or (1.0,) * len(self.members)

    @property
    def source(self) -> str:
        """Where the network comes from, for messages."""
        return self.cfg.name if self.cfg.weights is None else f"{self.cfg.name} with {self.cfg.weights}"

    @property
    def num_parameters(self) -> int:
        """Number of its parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def example(self, row: Float[Tensor, "1 *item"]) -> Float[Tensor, "1 *item"]:
        """Return zeros of the shape that the teacher takes where the student takes `row`."""
        return torch.zeros(1, 3, self.image_size, self.image_size)

    def own_view(self, view: ViewSpec) -> ViewSpec:
        """Return a view for the teacher at its image size and in its normalization."""
        resized = replace(view.augmentation, size=self.image_size, interpolation=self.interpolation)
        return replace(view, augmentation=replace(resized, mean=self.mean, std=self.std))

    def images(self, store: Dataset, device: torch.device) -> ImageFn:
        """Return the central views of a store's images in the teacher's preprocessing, on `device`."""
        assert isinstance(store, Store), "the data of a teacher of images are a store"
        return eval_images(store, self.image_size, self.mean, self.std, device, self.interpolation)


def teacher_features(
    teacher: LoadedTeacher,
    store: Dataset,
    indices: NDArray[np.int64],
    *,
    device: torch.device,
    batch_size: int = 256,
    description: str = "",
) -> Float[Tensor, "N D"]:
    """Return the vectors, float32, of the central views of the rows `indices` [N] of `store`.

    Those of several teachers are side by side, each of unit length times its scale.
    The network is moved to `device`; for `description` and the place of the result see `extract.extract_matrix`.
    """
    if teacher.further:
        parts = [
            teacher_features(member, store, indices, device=device, batch_size=batch_size, description=description)
            for member in teacher.members
        ]
        return side_by_side(parts, teacher.scales)
    network = teacher.network.to(device)
    bank = extract_matrix(
        lambda images: {0: network(images).vector},
        teacher.images(store, device),
        indices,
        {0: teacher.dim},
        device=device,
        batch_size=batch_size,
        show=description,
    )
    return bank[0]


def _ordinary(tensor: Tensor) -> Tensor:
    """Return a float32 copy made outside of inference mode."""
    return tensor.to(torch.float32, copy=True)
