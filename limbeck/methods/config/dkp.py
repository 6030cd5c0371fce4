"""Options of Distill-DKP, with their defaults."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.autolink import AutoLinkConfig
from limbeck.methods.config.base import MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.dkp import DKP

DEPTHS = (4, 5, 6)
"""The last block that halves, and both that double."""


@dataclass(frozen=True, kw_only=True)
class DKPConfig(AutoLinkConfig):
    """Distill-DKP, reconstructed: AutoLink on images, whose late features follow those of a frozen one on depth."""

    name: ClassVar[str] = "dkp"
    card: ClassVar[MethodCard] = MethodCard(
        summary="AutoLink whose late feature maps follow those of a frozen detector that sees the depth of the image",
        state="teacher",
        use_when="keypoints without labels before backgrounds that change, where depth is known in training",
        cost=8.6,
    )
    needs_companion: ClassVar[bool] = True
    teacher: str | None = None
    """Run of autolink on a store of depth, whose detector is frozen; needed."""
    teacher_digest: str = field(default="", metadata={"internal": True})
    """Hash of its weights, recorded when a run begins; another detector in its place is then refused."""
    weight: float = 1.0
    """Weight of the distance of the maps; 0 leaves the start alone."""
    depth: int = 6
    """Depth of the maps that are compared: 4, 5 or 6."""
    cosine_over: Literal["channels", "map"] = "channels"
    """A cosine for each place, over channels, or one for each map."""
    start: Literal["teacher", "random"] = "teacher"
    """Begin with the teacher's weights, so that its keypoint k is that of the student, or with random ones."""

    def make_views(self, size: int) -> "tuple[ViewSpec, ...]":
        """Return the view of the image and the same one of its depth, without a change of color."""
        (view,) = super().make_views(size)
        plain = replace(view.augmentation, jitter_p=0.0, grayscale=0.0, blur=0.0, solarize=0.0)
        return view, replace(view, augmentation=plain, image="companion", network="teacher", crop_of=0, mask=None)

    def raise_without_teacher(self) -> None:
        """Raise UserError without a teacher."""
        if not self.teacher:
            raise UserError(
                f"{self.name} learns from a detector that was trained on depth: train one with `limbeck pretrain "
                "DEPTH --method autolink`, and give its run as --method.teacher",
                code="teacher-needed",
            )

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration; UserError for a weight or a depth that makes no sense, or without a teacher."""
        self.raise_without_teacher()
        if self.weight < 0:
            raise UserError(f"weight is {self.weight:g}: it must be at least 0", code="out-of-range")
        if self.depth not in DEPTHS:
            raise UserError(f"depth is {self.depth}: maps are compared at depth 4, 5 or 6", code="out-of-range")
        from limbeck.keypoints.encoder_io import detector_digest, load_detector

        found = detector_digest(load_detector(self.teacher or ""))
        return replace(super().resolve(context), teacher_digest=found)

    def build(self, backbone: "Encoder") -> "DKP":
        """Build the method with a new decoder around `backbone`; UserError for a teacher that does not fit it."""
        from limbeck.methods.dkp import DKP

        return DKP(self.as_detector(backbone), self)
