"""Options of supervised training, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import MethodCard, SupervisedConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.classifier import ClassifierMethod


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(SupervisedConfig):
    """Classifier (supervised): a linear classifier on the features, trained with the network or alone."""

    name: ClassVar[str] = "classifier"
    card: ClassVar[MethodCard] = MethodCard(
        summary="classify, with a linear layer on the features (supervised)",
        state="-",
        use_when="through `limbeck finetune`: a trained network, and labels",
        cost=1.0,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 1)
    not_a_host_reason: ClassVar[str] = "its targets are labels, not another view"

    views: str = "supervised"
    """Preset of augmentations (docs/data.md), of one view."""
    layers: Literal["all", "head"] = "all"
    """all: train the network with the classifier; head: the classifier alone."""
    label_share: float = 1.0
    """Share of the images of every class that are trained on; a smaller one is inside a larger one."""
    subset_seed: int = 0
    """Seed of that choice."""
    label_smoothing: float = 0.0
    """Share of a label that is spread over all classes."""

    def __post_init__(self) -> None:
        """Raise UserError for a share that is none."""
        if not 0 < self.label_share <= 1:
            raise UserError(
                f"the share of labels is {self.label_share:g}: it must be above 0 and at most 1, such as 0.1",
                code="value-out-of-range",
            )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                f"label_smoothing is {self.label_smoothing:g}: take 0 to less than 1",
                code="label-smoothing-out-of-range",
            )

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with the classes; UserError if labels are missing."""
        self.check_classes(context.num_classes)
        return replace(self, num_classes=context.num_classes)

    def train_rows(self, labels: "NDArray[np.int64]") -> "NDArray[np.int64] | None":
        """Return the rows of the share; None: all."""
        from limbeck.data.subsets import label_subset

        return None if self.label_share == 1 else label_subset(labels, self.label_share, self.subset_seed)

    def build(self, backbone: "Encoder") -> "ClassifierMethod":
        """Build a new classifier on `backbone`; needs a resolved configuration."""
        from limbeck.methods.classifier import ClassifierMethod

        return ClassifierMethod(backbone, self)
