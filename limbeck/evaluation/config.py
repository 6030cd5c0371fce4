"""The settings of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from limbeck.core.errors import UserError

LEAST_SIDE = 64  # pixels of a frame
OF: Final = "of"
"""Key of the metadata in which every setting states what it is for; `Modality.measured_as` says who has that."""
ANY: Mapping[str, str] = {OF: ""}
FEATURES: Mapping[str, str] = {OF: "features"}
IMAGES: Mapping[str, str] = {OF: "images"}
KEYPOINTS: Mapping[str, str] = {OF: "keypoints"}
SERIES: Mapping[str, str] = {OF: "series"}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How to evaluate every layer of a backbone."""

    batch_size: int = field(default=256, metadata=ANY)
    """Images per forward pass."""
    k: int = field(default=20, metadata=FEATURES)
    """Neighbors of the weighted k-NN; no more than the smallest class has training images."""
    temperature: float = field(default=0.07, metadata=FEATURES)
    """Temperature of the weighted k-NN: a neighbor's vote weighs exp(cosine / temperature)."""
    linear: Literal["logistic", "sgd", "adam", "lbfgs", "one-vs-rest", "none"] = field(
        default="logistic", metadata=FEATURES
    )
    """Linear probe: logistic regression of whitened features, sgd (SDSSL's protocol), adam or lbfgs (W-MSE's),
    one-vs-rest (TS2Vec's), none."""
    linear_epochs: int | None = field(default=None, metadata=FEATURES)
    """Passes of the probe over the training features; by default 100 for sgd, 500 for adam."""
    linear_lr: float | None = field(default=None, metadata=FEATURES)
    """Initial learning rate of the probe; by default 0.1 per 256 rows of a batch for sgd, 0.01 for adam."""
    linear_batch_size: int | None = field(default=None, metadata=FEATURES)
    """Rows per step of the probe; by default 1024 for sgd, 1000 for adam."""
    whiten: bool = field(default=False, metadata=FEATURES)
    """Measure the weighted k-NN on half-whitened features as well."""
    copies: bool = field(default=False, metadata=IMAGES)
    """Measure copy detection on manipulated test images as well; that takes up to 5,000 more images per network."""
    copydays: str | None = field(default=None, metadata=IMAGES)
    """Folder in the layout of Copydays (original, strong, crops/50 ...), for copy detection among the test images."""
    revisited: str | None = field(default=None, metadata=IMAGES)
    """JSON file beside images: queries with boxes and their easy, hard and junk images of a database, as those of
    revisited Oxford and Paris."""
    train_masks: str | None = field(default=None, metadata=IMAGES)
    """Folder with a mask for each training image, under its name with the ending .png, for segmentation."""
    test_masks: str | None = field(default=None, metadata=IMAGES)
    """Folder with a mask for each test image."""
    train_keypoints: str | None = field(default=None, metadata=KEYPOINTS)
    """CSV file with the annotated keypoints of the training images; by default keypoints.csv in their folder."""
    test_keypoints: str | None = field(default=None, metadata=KEYPOINTS)
    """CSV file with the annotated keypoints of the test images; by default keypoints.csv in their folder."""
    videos: str | None = field(default=None, metadata=IMAGES)
    """Folder of videos with masks, in the layout of DAVIS, for the segmentation of videos."""
    video_side: int = field(default=480, metadata=IMAGES)
    """Short side of the frames in pixels; networks of small images need fewer."""
    forecast: tuple[int, ...] = field(default=(), metadata=SERIES)
    """Of recordings: forecast so many steps, by ridge regression; the test recordings continue the training ones."""
    references: bool = field(default=True, metadata=ANY)
    """Measure raw pixels, patch filters and the untrained network as lines of reference."""
    alignment_images: int = field(default=1000, metadata=IMAGES)
    """Test images, sampled with the seed, for alignment and uniformity."""
    latency: bool = field(default=True, metadata=ANY)
    """Measure the time of one image through the network cut at each layer."""
    precision: Literal["auto", "bf16", "fp32"] = field(default="auto", metadata=IMAGES)
    """Precision of the forward passes; auto is bf16 where the hardware supports it. Features are stored in float32."""
    image_size: int | None = field(default=None, metadata=IMAGES)
    """Side of the input images in pixels; by default that of the encoder's preprocessing."""
    mean: tuple[float, float, float] | None = field(default=None, metadata=IMAGES)
    """Channel means of the normalization; by default those of the encoder's preprocessing."""
    std: tuple[float, float, float] | None = field(default=None, metadata=IMAGES)
    """Channel standard deviations of the normalization; by default those of the encoder's preprocessing."""
    memory_gib: float = field(default=4.0, metadata=ANY)
    """Features larger than this are memory-mapped to a temporary file instead of held on the device."""
    device: str = field(default="auto", metadata=ANY)
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1 ..."""
    seed: int = field(default=0, metadata=ANY)
    """Seed of the sampled images and views, and of the order of the training rows of a probe."""
    progress: bool = field(default=True, metadata=ANY)
    """Show progress bars on stderr."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "k", "temperature", "linear_epochs", "linear_lr", "linear_batch_size", "memory_gib"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"{name} is {value}; it must be more than 0", code="value-out-of-range")
        if (self.train_masks is None) != (self.test_masks is None):
            given = "train_masks" if self.train_masks else "test_masks"
            message = f"{given} alone is of no use: give both train_masks and test_masks (--train-masks, --test-masks)"
            raise UserError(message, code="no-masks")
        if self.forecast and min(self.forecast) < 1:
            raise UserError(f"a horizon of {min(self.forecast)} steps: take at least 1", code="value-out-of-range")
        if self.video_side < LEAST_SIDE:
            raise UserError(
                f"video_side is {self.video_side}; it must be at least {LEAST_SIDE}", code="value-out-of-range"
            )
        if self.alignment_images < 2:
            raise UserError(
                f"alignment_images is {self.alignment_images}; it must be at least 2", code="value-out-of-range"
            )
