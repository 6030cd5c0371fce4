"""Compare the features of an exported file with those of the network in memory, on real images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.classification.heads import fit_head
from limbeck.metrics.fidelity import NUM_NEIGHBORS, nearest_images, neighbor_agreement
from limbeck.metrics.knn import knn_accuracy

ExampleBatch = tuple[Tensor, Tensor]
"""Images as the exported network takes them, and their labels, -1 where there is none."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Features of real images from a file next to those of the network in memory, in fp32."""

    images: int
    largest_difference: float  # of a feature, absolute
    mean_difference: float  # of the features, absolute
    cosine: float  # mean over the images
    neighbors: float  # share of the 10 nearest images that are the same
    same_class: float | None  # of a classifier: share of the images that get the same class
    chance: float  # `neighbors` of unrelated features
    knn: float | None  # 20-NN accuracy of one half of the images in the other; None without labels
    fp32_knn: float | None  # the same of the network in memory
    linear: float | None  # accuracy of a ridge regression, fitted to one half of the images, in the other
    fp32_linear: float | None  # the same of the network in memory

    @property
    def fidelity(self) -> float:
        """What a reduced precision must preserve: the classes of a classifier, else the neighbors."""
        return self.neighbors if self.same_class is None else self.same_class

    def sentence(self, noun: str = "images") -> str:
        """Return the comparison in one sentence; `noun` is what the rows are called."""
        if self.same_class is not None:
            return f"on {self.images} real {noun}: {self.same_class:.1%} get the same class"
        labels = (
            ""
            if self.knn is None
            else f", accuracy by 20-NN {self.knn:.1%} (fp32 {self.fp32_knn:.1%}) and by a linear probe "
            f"{self.linear:.1%} (fp32 {self.fp32_linear:.1%})"
        )
        return (
            f"on {self.images} real {noun}: {self.neighbors:.1%} of the 10 nearest neighbors kept (chance "
            f"{self.chance:.1%}), mean cosine {self.cosine:.4f}{labels}"
        )


@torch.no_grad()
def features_of(network: Callable[[Tensor], Tensor], batches: Sequence[ExampleBatch]) -> Tensor:
    """Return the features [N D] of all images."""
    return torch.cat([network(images).float() for images, _ in batches])


def prove(found: Tensor, expected: Tensor, labels: Tensor, *, logits: bool = False) -> Proof:
    """Compare what a file makes of N images, at least 12, with the network in memory: features [N D], or logits."""
    difference = (found - expected).abs()
    nearest = [nearest_images(features) for features in (found, expected)]
    return Proof(
        images=len(found),
        largest_difference=difference.max().item(),
        mean_difference=difference.mean().item(),
        cosine=F.cosine_similarity(found, expected).mean().item(),
        neighbors=neighbor_agreement(*nearest),
        same_class=(found.argmax(dim=1) == expected.argmax(dim=1)).double().mean().item() if logits else None,
        chance=NUM_NEIGHBORS / (len(found) - 1),
        knn=half_knn(found, labels),
        fp32_knn=half_knn(expected, labels),
        linear=half_linear(found, labels),
        fp32_linear=half_linear(expected, labels),
    )


def half_knn(features: Tensor, labels: Tensor) -> float | None:
    """Return the 20-NN accuracy of the odd rows in the even ones, or None where a label is missing."""
    if not _have_classes(labels):
        return None
    return knn_accuracy(features[::2], labels[::2], features[1::2], labels[1::2])


def half_linear(features: Tensor, labels: Tensor) -> float | None:
    """Return the accuracy in the odd rows of a ridge regression on the even ones, or None where a label is missing."""
    if not _have_classes(labels):
        return None
    classes = int(labels.max()) + 1
    head = fit_head("ridge", features[::2], labels[::2], classes)
    return (head(features[1::2]).argmax(dim=1) == labels[1::2]).double().mean().item()


def _have_classes(labels: Tensor) -> bool:
    """Return whether every row has a label, and there are two of them among the even rows."""
    return bool((labels >= 0).all()) and len(labels[::2].unique()) > 1
