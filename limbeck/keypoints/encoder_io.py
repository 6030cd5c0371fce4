"""Keypoint detectors on disk: `model.safetensors` and `config.json`, which a run holds."""

from os import PathLike

from safetensors import SafetensorError
from safetensors.torch import load_file

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.keypoints.config import DetectorConfig
from limbeck.keypoints.network import Detector
from limbeck.models.encoder_io import encoder_folder
from limbeck.models.weights import digest


def load_detector(path: str | PathLike[str]) -> Detector:
    """Load the keypoint detector of a run or an encoder folder, in evaluation mode.

    Raises:
        UserError: nothing to load at `path`, or weights that do not fit.
    """
    folder = encoder_folder(path)
    found = read_json(folder / "config.json")
    about = found.get("limbeck") if isinstance(found, dict) else None
    if not isinstance(about, dict) or about.get("modality") != "keypoints":
        raise UserError(f"'{path}' is no keypoint detector: give a run of autolink", code="not-a-detector")
    detector = Detector(from_json(DetectorConfig, about["encoder"], f"{folder}/config.json"))
    try:
        detector.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        message = f"{folder}/model.safetensors is not the network of its config.json: {error}"
        raise UserError(message, code="damaged-encoder") from error
    return detector.eval()


def detector_digest(detector: Detector) -> str:
    """Return a hash of the weights and the configuration."""
    return digest(detector, {"detector": to_json(detector.cfg)})
