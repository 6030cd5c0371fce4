"""Options of BINGO, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.methods.config.base import MethodCard, QueueDistillConfig, teacher_view

if TYPE_CHECKING:
    from limbeck.core.types import BagSpec, DataContext, Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base import Teacher
    from limbeck.methods.bingo import BINGO


@dataclass(frozen=True, kw_only=True)
class BINGOConfig(QueueDistillConfig):
    """BINGO: pull the images of a bag together around the teacher's vectors; strongest where few labels come later."""

    name: ClassVar[str] = "bingo"
    card: ClassVar[MethodCard] = MethodCard(
        summary="contrast with the teacher's vectors of the image and of a partner from its bag",
        state="teacher, queue, bags",
        use_when="clean images, patience, and a few labels later; not video or duplicates",
        cost=3.8,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    hidden: int = 2048
    """Width of the head's hidden layer."""
    temperature: float | None = None
    """Divides the cosines; None: chosen for the teacher (the authors: 0.2, and 0.12 for a SwAV teacher)."""
    bag_kind: Literal["knn", "kmeans"] = "knn"
    """Bags of nearest neighbors, or of the clusters of a spherical k-means."""
    bag_size: int = 5
    """Images of a bag besides its own; by default at most a tenth of the square root of the store."""
    max_similarity: float | None = None
    """Leave neighbors of a larger cosine out of bags: 0.999 for copies and frames of a film."""
    bag_weight: float = 0.5
    """Weight of the teacher's vector of the other image of the bag; that of the image itself has the rest."""
    warmup_fraction: float = 0.055
    """Fraction of the run in which only the vector of the image itself counts (11 of 200 epochs)."""
    symmetric: bool = True
    """Compare image and partner each with both vectors. The paper compares both with the image's."""
    cutmix_alpha: float = 2.0
    """Parameter of the Beta distribution of the boxes in which the partner replaces the image; 0: no CutMix, as in the
    paper."""

    def student_teacher_views(self, views: tuple["ViewSpec", ...]) -> tuple["ViewSpec", ...]:
        """Return image and partner under view 1 for the student, and under view 2 for the teacher."""
        student, teacher = views[0], teacher_view(views[1], 1)
        of_teacher = (teacher, replace(teacher, image="partner")) if self.needs_partner else (teacher,)
        return student, replace(student, image="partner", crop_of=0), *of_teacher

    @property
    def needs_partner(self) -> bool:
        """Whether the teacher's vector of the partner is needed."""
        return self.symmetric or self.cutmix_alpha > 0

    def bag_spec(self) -> "BagSpec":
        """Return the specification of the bags."""
        from limbeck.core.types import BagSpec

        return BagSpec(self.bag_kind, self.bag_size, self.max_similarity)

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with a queue and bags that suit the store."""
        if self.cutmix_alpha < 0:
            message = f"cutmix_alpha is {self.cutmix_alpha}: take 0 for no CutMix, or more"
            raise UserError(message, code="cutmix-alpha-out-of-range")
        if not 0 <= self.bag_weight <= 1:
            raise UserError(f"bag_weight is {self.bag_weight}: take 0 to 1", code="bag-weight-out-of-range")
        return replace(super().resolve(context), bag_size=self._resolve_bag_size(context.num_images))

    def _resolve_bag_size(self, images: int) -> int:
        suggested = max(1, isqrt(images) // 10)
        size = min(self.bag_size, suggested) if self.bag_size == type(self).bag_size else self.bag_size
        if not 1 <= size < images:
            message = f"bag_size {size:,} does not fit a store of {plural(images, 'image')}; take 1 to {images - 1:,}"
            raise UserError(f"{message} ({suggested} is a good start)", code="bag-size-out-of-range")
        return size

    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "BINGO":
        """Build BINGO with a new head around `backbone`."""
        from limbeck.methods.bingo import BINGO

        return BINGO(backbone, self, teacher)
