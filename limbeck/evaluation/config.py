"""The settings of an evaluation."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError

LEAST_SIDE = 64  # pixels of a frame


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How to evaluate every layer of a backbone."""

    batch_size: int = 256
    """Images per forward pass."""
    k: int = 20
    """Neighbors of the weighted k-NN; no more than the smallest class has training images."""
    temperature: float = 0.07
    """Temperature of the weighted k-NN: a neighbor's vote weighs exp(cosine / temperature)."""
    linear: Literal["logistic", "sgd", "adam", "lbfgs", "one-vs-rest", "none"] = "logistic"
    """Linear probe: logistic regression of whitened features, sgd (SDSSL's protocol), adam or lbfgs (W-MSE's),
    one-vs-rest (TS2Vec's), none."""
    linear_epochs: int | None = None
    """Passes of the probe over the training features; by default 100 for sgd, 500 for adam."""
    linear_lr: float | None = None
    """Initial learning rate of the probe; by default 0.1 per 256 rows of a batch for sgd, 0.01 for adam."""
    linear_batch_size: int | None = None
    """Rows per step of the probe; by default 1024 for sgd, 1000 for adam."""
    whiten: bool = False
    """Measure the weighted k-NN on half-whitened features as well."""
    copies: bool = False
    """Measure copy detection on manipulated test images as well; that takes up to 5,000 more images per network."""
    copydays: str | None = None
    """Folder in the layout of Copydays (original, strong, crops/50 ...), for copy detection among the test images."""
    revisited: str | None = None
    """JSON file beside images: queries with boxes and their easy, hard and junk images of a database, as those of
    revisited Oxford and Paris."""
    train_masks: str | None = None
    """Folder with a mask for each training image, under its name with the ending .png, for segmentation."""
    test_masks: str | None = None
    """Folder with a mask for each test image."""
    train_keypoints: str | None = None
    """CSV file with the annotated keypoints of the training images; by default keypoints.csv in their folder."""
    test_keypoints: str | None = None
    """CSV file with the annotated keypoints of the test images; by default keypoints.csv in their folder."""
    videos: str | None = None
    """Folder of videos with masks, in the layout of DAVIS, for the segmentation of videos."""
    video_side: int = 480
    """Short side of the frames in pixels; networks of small images need fewer."""
    forecast: tuple[int, ...] = ()
    """Of recordings: forecast so many steps, by ridge regression; the test recordings continue the training ones."""
    references: bool = True
    """Measure raw pixels, patch filters and the untrained network as lines of reference."""
    alignment_images: int = 1000
    """Test images, sampled with the seed, for alignment and uniformity."""
    latency: bool = True
    """Measure the time of one image through the network cut at each layer."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the forward passes; auto is bf16 where the hardware supports it. Features are stored in float32."""
    image_size: int | None = None
    """Side of the input images in pixels; by default that of the encoder's preprocessing."""
    mean: tuple[float, float, float] | None = None
    """Channel means of the normalization; by default those of the encoder's preprocessing."""
    std: tuple[float, float, float] | None = None
    """Channel standard deviations of the normalization; by default those of the encoder's preprocessing."""
    memory_gib: float = 4.0
    """Features larger than this are memory-mapped to a temporary file instead of held on the device."""
    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1 ..."""
    seed: int = 0
    """Seed of the sampled images and views, and of the order of the training rows of a probe."""
    progress: bool = True
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
