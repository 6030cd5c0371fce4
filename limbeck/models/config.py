"""Which network is trained, and which trained weights it starts from."""

from dataclasses import dataclass, field
from typing import Any, Literal

from limbeck.core.errors import UserError
from limbeck.core.untrusted import is_unsafe_for_timm, refuse_keys
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD

MIN_SIDE = 8  # pixels: the smallest image that patch filters see
SMALL_IMAGE = 64  # pixels; up to here a CNN gets the stem for small images unless configured otherwise


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The network and its initialization.

    By default ViTs (timm's `vision_transformer`, `deit`, `eva` and `beit` families) are initialized as SDSSL's:
    MoCo v3's random weights, fixed positions, a frozen patch embedding.
    """

    name: str = "vit_tiny_patch16_224"
    """Any timm model that has `forward_intermediates`."""
    image_size: int | None = None
    """Side of the images in pixels; None: the network's default (224 for most)."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further timm arguments (JSON values), such as patch_size, embed_dim, depth, global_pool, channels.

    A ResNet-18 of a quarter of its width is {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}:
    timm's plain stem is always 64 wide, its deep one 2 * stem_width, and the small stem has the width it replaces.
    """
    small_stem: bool | None = None
    """CNNs: start with a 3x3 convolution of stride 1 and no max-pool (families: `surgery.SMALL_STEMS`).

    None: where image_size is at most 64 and the family has such a stem.
    """
    stem_pool: bool = False
    """ResNets with a small stem: keep the max-pool, which quarters every feature map (usual at 64 pixels)."""
    freeze_patch_embed: bool = True
    """Freeze the random patch embedding of ViTs (MoCo v3's remedy for instability)."""
    sincos_positions: bool = True
    """Fix absolute positions of ViTs to 2-D sin-cos ones."""
    init: Literal["moco", "timm"] = "moco"
    """ViTs: initialize with MoCo v3's weights or timm's."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    cut: int | None = None
    """Use blocks or stages 1..cut only."""
    mean: tuple[float, float, float] | None = None
    """Mean of the channels in the normalization of the images, for pixels in [0, 1]; by default that of the weights to
    start from, else ImageNet's."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of the channels, likewise."""
    per_layer_norm: bool = False
    """ViTs: give every depth a final norm of its own instead of a shared one (as in SDSSL's runs of 2021 and 2022)."""
    patch_filters: int = 0
    """Join the last features with those of so many patch filters (400 is usual), which are fitted to the images, when
    the training has ended; 0: none (docs/distillation.md)."""

    def __post_init__(self) -> None:
        """Raise UserError for an argument with which timm would read weights; configurations are shared."""
        refuse_keys(self.args, is_unsafe_for_timm, f"the arguments of '{self.name}'")
        if self.std is not None and min(self.std) <= 0:
            raise UserError(f"backbone.std is {self.std}: every deviation must be above 0", code="out-of-range")
        if self.patch_filters < 0:
            raise UserError(f"backbone.patch_filters is {self.patch_filters}: it is 0 or more", code="out-of-range")
        if self.patch_filters and self.image_size is not None and self.image_size < MIN_SIDE:
            raise UserError(
                f"patch filters need images of {MIN_SIDE} pixels, and backbone.image_size is {self.image_size}: leave "
                "patch_filters out",
                code="image-size-too-small",
            )

    @property
    def normalization(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation of the channels, for pixels in [0, 1]."""
        return self.mean or IMAGENET_MEAN, self.std or IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Which trained weights a run starts from."""

    name: str
    """A run, an encoder or an export; a folder in timm's format; a file of weights, for the network that --backbone
    names; or a timm model ("timm:NAME"), which is downloaded."""
    license: str = ""
    """License as its source states it, recorded when the weights are loaded; yours if the source states none."""
    digest: str = field(default="", metadata={"internal": True})
    """Hash of the weights, recorded when they are loaded; other weights of the same name are then refused."""
