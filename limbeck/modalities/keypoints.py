"""Keypoints: images as any other run has them, and a network that finds keypoints in them."""

from typing import TYPE_CHECKING

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.keypoints.config import DEPTH, NORMALIZATION, DetectorConfig
from limbeck.modalities.base import StoreModality, normalized

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from limbeck.core.types import Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.data.store.store import Store
    from limbeck.evaluation.comparison import ComparedWith
    from limbeck.evaluation.config import EvaluateConfig
    from limbeck.evaluation.results import EvaluationResult
    from limbeck.keypoints.network import Detector
    from limbeck.methods import MethodConfig

SMALL = DetectorConfig(image_size=64, width=16)
"""The network on a machine without a GPU."""


class Keypoints(StoreModality[DetectorConfig]):
    """Images in which keypoints are found; no source is recognized, since a method or a network asks for it."""

    name = "keypoints"
    nouns = ("image", "images")
    evaluated = True
    measured_as = ("keypoints",)
    export_formats = ("onnx", "torch")
    labeled = ("ANNOTATED/train", "ANNOTATED/test")

    def recognizes(self, source: object) -> bool:
        """Recognize nothing: images alone are for other networks."""
        return False

    def takes(self, source: object) -> bool:
        """Take everything that a store can be built of."""
        return True

    def encoder_config(self, name: str) -> type[DetectorConfig] | None:
        """Know one network."""
        return DetectorConfig if name == DetectorConfig.name else None

    def default_encoder(self) -> DetectorConfig:
        """Return that network."""
        return DetectorConfig()

    def small_encoder(self, data: "Store | None" = None, *, joined: bool = False) -> Resolved[DetectorConfig]:
        """Return a network of a quarter of the width on images of half the side."""
        reason = f"width {SMALL.width}, images of {SMALL.image_size} pixels (--backbone.width, --backbone.image-size)"
        return Resolved(SMALL, [reason])

    def check_encoder(self, cfg: DetectorConfig) -> tuple[int, ...]:
        """Return the depths."""
        return tuple(range(1, DEPTH + 1))

    def build_encoder(self, cfg: DetectorConfig) -> "Detector":
        """Build the network."""
        from limbeck.keypoints.network import Detector

        return Detector(cfg)

    def load_encoder(self, path: "str | PathLike[str]", depth: int | None = None) -> "Detector":
        """Load the detector, which is always whole."""
        from limbeck.keypoints.encoder_io import load_detector

        detector = load_detector(path)
        return detector if depth is None else detector.cut(depth)

    def evaluate(
        self,
        run: "Path",
        untrained: "Encoder",
        train: "Store",
        test: "Store",
        cfg: "EvaluateConfig",
        compared: "ComparedWith",
    ) -> "EvaluationResult":
        """Regress annotated keypoints from those that the detector of a run finds; UserError without annotations."""
        from pathlib import Path

        from limbeck.data.annotated import AnnotatedPair
        from limbeck.evaluation.keypoint_evaluation import evaluate_keypoints
        from limbeck.keypoints.encoder_io import load_detector
        from limbeck.keypoints.network import Detector

        assert isinstance(untrained, Detector), "the encoder of a run on keypoints is what `build_encoder` built"
        for role, file in (("train", cfg.train_keypoints), ("test", cfg.test_keypoints)):
            if file is None:
                raise UserError(
                    f"the images of --{role} have no annotated keypoints: give --{role}-keypoints FILE.csv, "
                    "or put keypoints.csv into their folder",
                    code="no-keypoints",
                )
        files = (Path(file or "") for file in (cfg.train_keypoints, cfg.test_keypoints))
        annotated = AnnotatedPair.read(*zip(files, (train, test), strict=True))
        return evaluate_keypoints(load_detector(run), untrained, train, test, annotated, cfg)

    def make_views(self, method: "MethodConfig", cfg: DetectorConfig) -> "tuple[ViewSpec, ...]":
        """Return the view of a method for keypoints, with pixels in [-1, 1]; UserError for any other method."""
        if method.only_on is None or method.only_on[0] != self.name:
            raise UserError(
                f"method '{method.name}' compares features, and those of '{cfg.name}' are places of keypoints: take "
                "another network, or --method autolink",
                code="method-not-for-data",
            )
        return normalized(method.make_views(cfg.image_size), NORMALIZATION, NORMALIZATION)

    def describe_views(self, method: "MethodConfig") -> str:
        """Log the measure by which images are compared, since results of different measures are not comparable."""
        by = getattr(method, "perceptual", None) or "pixels (--method.perceptual names a network)"
        return f", compared by {by}"


MODALITY = Keypoints()
