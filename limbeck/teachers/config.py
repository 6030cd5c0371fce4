"""Settings of a teacher: which network, with which preprocessing, and whether its features are cached."""

from dataclasses import dataclass, field
from typing import Literal

from limbeck.core.errors import UserError

START_TEACHER = "start"
"""Name of the teacher that is a frozen copy of the weights that a run starts from."""
PATCH_FILTERS = "patch-filters"
"""Name of the teacher that needs no weights: features that are fitted to the images of the run."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Which frozen network the student is distilled from, and with which preprocessing."""

    name: str
    """A timm model, or a folder: a Limbeck run, encoder or export, or what timm or Hugging Face saved. "timm:NAME" is
    the model where a folder has the same name, "hf-hub:OWNER/MODEL" is a repository in timm's format, "patch-filters"
    are fitted to the images of the run, and "start" is the frozen copy of what the run starts from."""
    further: tuple[str, ...] = ()
    """Further teachers, named in the same way, whose vectors of whole images are appended: each of unit length, and all
    with deviations of one size. Each has its own input size and normalization."""
    weights: str | None = None
    """File with the weights of a timm model (.safetensors, or a PyTorch checkpoint of tensors) to use instead."""
    depth: int | None = None
    """Number of blocks or stages to use, of a Limbeck or timm network."""
    image_size: Literal["auto"] | int | None = None
    """Input size in pixels; auto: at which its feature map has the places of the student's, or a whole multiple of
    them; by default the teacher's own."""
    mean: tuple[float, float, float] | None = None
    """Mean of the channels in its normalization, for pixels in [0, 1]; overrides what its configuration states."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of the channels in its normalization, for pixels in [0, 1]; as mean."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of its forward pass; auto is bf16 if the hardware supports it. Its features are float32."""
    batch_statistics: bool = False
    """Let BatchNorm use batch statistics in training steps, as BINGO and DisCo do; nothing is updated."""
    cached_views: int = 0
    """Augmented views per image with teacher features cached on disk; 0 runs the teacher in every step."""
    targets: Literal["view", "image"] | None = None
    """Input of the teacher: the student's view, or the whole image for every view of it, computed once and cached. By
    default the view; the image for patch-filters, for the start and for several teachers."""
    cache: str | None = None
    """Folder of the cached features; by default next to the store, named after teacher and store."""
    center: bool | None = None
    """Subtract the mean from the unit feature vectors; by default if its norm is above 0.5, as for CLIP, and with
    several teachers."""
    val_images: int | None = None
    """Images held out of training, on which student and teacher are compared; by default 1,000, or a tenth of a smaller
    store; for the start 2,000, or a fifth."""
    digest: str = field(default="", metadata={"internal": True})
    """Hash of the weights, recorded when the teacher is loaded; another network of the same name is then refused."""
    further_digests: tuple[str, ...] = field(default=(), metadata={"internal": True})
    """Hashes of the weights of the further teachers, likewise."""
    scales: tuple[float, ...] = field(default=(), metadata={"internal": True})
    """Factors of the unit vectors of all teachers, if there are several, recorded when a run begins."""
    license: str = ""
    """License as its source states it, recorded when the teacher is loaded; yours if the source states none."""

    def __post_init__(self) -> None:
        """Raise UserError for settings that contradict each other or are out of range."""
        if self.batch_statistics and self.cached_views:
            raise UserError(
                "teacher.batch_statistics makes the features of an image depend on the other images of its batch, so "
                f"they cannot be cached: set --teacher.cached-views to 0 (not {self.cached_views})",
                code="teacher-not-cacheable",
            )
        if self.targets == "image" and (self.batch_statistics or self.cached_views):
            raise UserError(
                "teacher.targets image has one feature vector per image, whatever the view and the batch: leave out "
                "--teacher.cached-views and --teacher.batch-statistics",
                code="teacher-targets",
            )
        self._check_further()
        for name, least in (("cached_views", 0), ("val_images", 0), ("depth", 1), ("image_size", 1)):
            if isinstance(value := getattr(self, name), int) and value < least:
                raise UserError(f"teacher.{name} is {value}: it must be at least {least}", code="out-of-range")
        if self.std is not None and min(self.std) <= 0:
            raise UserError(f"teacher.std is {self.std}: every standard deviation must be above 0", code="out-of-range")

    @property
    def pixels(self) -> int | None:
        """The input size, if it is a number."""
        return None if self.image_size == "auto" else self.image_size

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all teachers."""
        return (self.name, *self.further)

    def _check_further(self) -> None:
        """Raise UserError if several teachers shall answer to views, or one of them is the start of a run."""
        if not self.further:
            return
        if self.targets == "view" or self.cached_views or self.batch_statistics:
            raise UserError(
                f"teacher.further ({', '.join(self.further)}) appends vectors of whole images: leave out "
                "--teacher.targets view, --teacher.cached-views and --teacher.batch-statistics",
                code="teacher-further",
            )
        if START_TEACHER in self.names:
            raise UserError(
                f"teacher.further is {' '.join(self.further)}, and the teacher '{START_TEACHER}' stands alone: leave "
                "out --teacher.further",
                code="teacher-further",
            )
