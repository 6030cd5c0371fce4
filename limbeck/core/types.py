"""Types that the parts exchange: batches, features, losses, and the protocols of encoders and data sets.

Shape legend, used in names, annotations and docstrings everywhere:

    V  views of an image        B  images in a batch         D  width of an embedding
    L  tapped depths            K  rows of a bank            N  rows of a store
    P  positions of a mask      W  processes                 Q  prototypes or classes
    C H W  channels, height and width of pixels or feature maps

The tuples are named tuples because Fabric and DDP convert and scatter tuples by themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.core.config import EncoderConfig


class Batch(NamedTuple):
    """Views of the same images, float32 and normalized; sizes may differ between views.

    Views for a frozen teacher come last.
    """

    views: tuple[Float[Tensor, "B *item"], ...]  # [B C H W] of images
    indices: Int[Tensor, " B"]  # int64, rows of the store
    labels: Int[Tensor, " B"] | None = None  # int64
    partner_indices: Int[Tensor, " B"] | None = None  # int64, for each image a row of its bag, where there are bags
    view_epoch: int = 0  # the epoch that the teacher's augmentations are drawn for; cached views repeat
    masks: tuple[Bool[Tensor, "B P"], ...] = ()  # one per view, for methods that hide parts of their input
    host_rows: tuple[NDArray[np.int64], ...] = ()  # [B] indices, and those of partners, to be read without a wait


class Features(NamedTuple):
    """Output of an encoder for a batch. Depths (taps) count from 1, the first block or stage, to the last."""

    final: Float[Tensor, "B D"]
    taps: dict[int, Float[Tensor, "B _"]]  # depth -> pooled vectors
    feature_maps: dict[int, Float[Tensor, "B _ *places"]]  # depth -> [B C H W] of images; empty unless requested


class Encoder(nn.Module, ABC):
    """A network that maps a batch to features at any depth; `models.backbone.Backbone` is the one for images.

    Methods, losses and the training loop need nothing else, so an encoder of series or keypoints trains with all of
    them that do not resize feature maps as images.
    """

    cfg: EncoderConfig
    dim: int
    """Width of `Features.final`."""
    taps: tuple[int, ...]
    """The depths: (1, ..., depth)."""
    tap_dims: dict[int, int]
    """Width of the pooled vector at each depth."""
    map_dims: dict[int, int]
    """Channels of the feature map at each depth."""

    @abstractmethod
    def forward(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """Map inputs [B ...] to `final` and, at the depths `taps`, to pooled vectors and if requested feature maps."""

    @abstractmethod
    def cut(self, depth: int) -> Self:
        """Return a copy of blocks or stages 1..`depth`, whose `final` is this encoder's tap `depth`."""

    if TYPE_CHECKING:

        def __call__(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
            """Run `forward` with its hooks."""


class BlockOutput(NamedTuple):
    """Result of a residual block."""

    branch: Float[Tensor, "B P D"]  # before the residual sum
    output: Float[Tensor, "B P D"]


class TokenEncoder(Encoder):
    """An encoder of positions, some of which a method can hide: what masked prediction needs."""

    token_dim: int
    """Width of the tokens that the blocks get."""

    @abstractmethod
    def present(self, x: Tensor) -> Bool[Tensor, "B P"]:
        """Return which positions of the inputs have values."""

    @abstractmethod
    def tokens(self, x: Tensor) -> Float[Tensor, "B P D"]:
        """Map inputs to tokens; those of positions without values are 0."""

    @abstractmethod
    def encode_tokens(self, tokens: Float[Tensor, "B P D"]) -> tuple[BlockOutput, ...]:
        """Run the blocks 1..depth on tokens."""


class Dataset(Protocol):
    """Protocol of the data sets of a training; `data.store.Store` is the one for images."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label per row, [N]; -1 where there is none."""

    @property
    def label_names(self) -> list[str]:
        """Names of the labels; empty without labels."""

    @property
    def labeled(self) -> bool:
        """Whether every row has a label."""

    @property
    def digest(self) -> str:
        """Hash of the content: a run resumes on the same data only."""

    @property
    def path(self) -> Path | None:
        """Folder or file of the data; None if they are in memory."""

    def __len__(self) -> int:
        """Return N, the number of rows."""


class TeacherOutput(NamedTuple):
    """Output of a frozen teacher for a batch."""

    vectors: tuple[Float[Tensor, "B D"], ...]  # float32, one for each view of the teacher
    feature_map: Float[Tensor, "B C H W"] | None = None  # of the student's first view; None unless requested


class BagSpec(NamedTuple):
    """Specification of bags: an image and those nearest to it in the teacher's feature space."""

    kind: str  # "knn" or "kmeans"
    size: int  # images in a bag, the image itself excluded
    max_similarity: float | None = None  # cosine above which a neighbor counts as a copy and is left out


class LossOutput(NamedTuple):
    """Result of a forward pass: what to minimize, what to log, and what `after_step` needs."""

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]  # parts of the total, detached, for the log
    memory: dict[str, Tensor]  # rows of all processes, passed on to `after_step`


class StepInfo(NamedTuple):
    """Position in the run: optimizer step `step` (from 0) of `total_steps`."""

    step: int
    total_steps: int

    @property
    def progress(self) -> float:
        """Fraction of the run that is over, in [0, 1]."""
        return self.step / self.total_steps


class DataContext(NamedTuple):
    """Context in which a configuration is resolved before anything is built: sizes of data, batch and run."""

    num_images: int  # in the store
    batch_size: int  # images per optimizer step, over all processes and micro-batches
    forward_batch_size: int  # images per forward pass, over all processes: `batch_size` / micro-batches
    num_classes: int = 0  # label names of the store; 0 without labels
    total_steps: int = 1_000_000  # optimizer steps of the run

    @property
    def max_initial_steps(self) -> int:
        """Longest phase at the start of a run: an epoch, and no more than a tenth of the run."""
        return min(self.num_images // self.batch_size, self.total_steps // 10)
