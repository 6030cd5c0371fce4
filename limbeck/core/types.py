"""What travels between the parts: the one file that everybody imports.

Shape legend, used in names, annotations and docstrings everywhere:

    V  views of an image        B  images in a batch         D  width of an embedding
    L  tapped layers            K  rows of a bank            N  rows of a store
    C H W  channels, height and width of pixels or feature maps

These are named tuples, because Fabric and DDP convert and scatter tuples by themselves.
"""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Views of the same images; `views` holds V tensors [B C H W], float32, normalised (H and W may differ by view).

    Views that a frozen teacher sees come last.
    """

    views: tuple[Tensor, ...]
    indices: Tensor  # [B] int64, rows of the store
    labels: Tensor | None = None  # [B] int64
    partner_indices: Tensor | None = None  # [B] int64, for each image a row of its bag, where there are bags
    view_epoch: int = 0  # which draw of the augmentations a frozen teacher sees: the epoch, or what it is replayed as


class Features(NamedTuple):
    """What a backbone says of a batch. Taps count from 1 (the first block or stage) to the depth of the network."""

    final: Tensor  # [B D]
    taps: dict[int, Tensor]  # tap -> [B D_tap], pooled
    maps: dict[int, Tensor]  # tap -> [B C H W]; empty unless asked for


class TeacherOutput(NamedTuple):
    """What a frozen teacher says of a batch."""

    vectors: tuple[Tensor, ...]  # [B D] float32, of each view that it sees
    map: Tensor | None = None  # [B C H W], of the view that the student sees first; None unless asked for


class BagSpec(NamedTuple):
    """Which images a distiller wants to see together with an image: `size` of those most like it to the teacher."""

    kind: str  # "knn" or "kmeans"
    size: int
    max_similarity: float | None = None  # of the nearest, those of a larger cosine are copies and left out


class LossOutput(NamedTuple):
    """`total` is what is minimised; `terms` are its parts, for people; `memory` is what `after_step` must remember."""

    total: Tensor
    terms: dict[str, Tensor]
    memory: dict[str, Tensor]


class StepInfo(NamedTuple):
    """Where the run is: optimiser step `step` (from 0) of `total_steps`."""

    step: int
    total_steps: int

    @property
    def progress(self) -> float:
        """Share of the run that is over, in [0, 1]."""
        return self.step / self.total_steps


class DataContext(NamedTuple):
    """What a run tells a method before it is built."""

    num_images: int  # in the store
    batch_size: int  # images per optimiser step, over all processes and micro-batches
    forward_batch_size: int  # images that one forward sees, over all processes: `batch_size` / micro-batches
    num_classes: int = 0  # label names of the store; 0 without labels
    total_steps: int = 1_000_000  # optimiser steps of the run

    @property
    def max_initial_steps(self) -> int:
        """Steps that a phase at the start may take: an epoch, and no more than a tenth of the run."""
        return min(self.num_images // self.batch_size, self.total_steps // 10)
