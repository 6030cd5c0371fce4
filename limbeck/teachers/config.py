"""Which frozen network teaches, and how it sees."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Which frozen network teaches, and how it sees."""

    name: str
    """A folder (Limbeck run, encoder or export; timm; Hugging Face), a timm model ("timm:NAME" where a folder has its
    name), or "hf-hub:OWNER/MODEL" in timm's format."""
    weights: str | None = None
    """File with the weights of a timm model (.safetensors, or a PyTorch checkpoint of tensors) instead of timm's."""
    depth: int | None = None
    """Blocks or stages to keep, of a Limbeck or timm network."""
    image_size: int | None = None
    """Pixels of the images that it sees; its own if not given."""
    mean: tuple[float, float, float] | None = None
    """Mean of the channels that it was trained with, for pixels in [0, 1]; instead of what its configuration says."""
    std: tuple[float, float, float] | None = None
    """Deviation of the channels that it was trained with, for pixels in [0, 1]; as the mean."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Its arithmetic; auto takes bf16 where the hardware has it. What it says is float32."""
    batch_statistics: bool = False
    """In training steps BatchNorms run on batch statistics, as those of BINGO and DisCo do; nothing is updated."""
    cached_views: int = 0
    """Draws of every image whose answers are kept on the disk and repeated; 0: the teacher is asked at every step."""
    cache: str | None = None
    """Folder of the kept answers; by default one beside the store, named after teacher and store."""
    center: bool | None = None
    """Subtract the mean from the unit vectors; None: where it is longer than 0.5, as that of CLIP."""
    val_images: int | None = None
    """Images of the store that are not learnt from, on which student and teacher are compared; None: 1,000, or a tenth
    of a smaller store."""
    digest: str = ""
    """Of its weights; filled in when it is loaded, and another network of the same name is refused from then on."""
    license: str = ""
    """As its source says; filled in when it is loaded, unless the source says nothing."""

    def __post_init__(self) -> None:
        if self.batch_statistics and self.cached_views:
            raise UserError(
                "teacher.batch_statistics make an answer depend on what it comes together with, so answers cannot be "
                "kept: take --teacher.cached-views 0"
            )
        for name in ("cached_views", "val_images"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise UserError(f"teacher.{name} is {value}: it must be at least 0")
        for name in ("depth", "image_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"teacher.{name} is {value}: it must be at least 1")
        if self.std is not None and min(self.std) <= 0:
            raise UserError(f"teacher.std is {self.std}: every deviation must be more than 0")
