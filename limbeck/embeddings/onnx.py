"""An ONNX export as a frozen encoder: whatever `limbeck export --format onnx` wrote, on the CPU."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.core.config import from_json
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import read_json
from limbeck.core.packages import require
from limbeck.core.types import Features
from limbeck.embeddings.encoders import FrozenEncoder
from limbeck.models.encoder_io import Preprocessing
from limbeck.models.pretrained import as_interpolation

MODEL, DESCRIPTION = "model.onnx", "model.json"
OUTPUT = "features"
NO_NORMALIZATION = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def is_onnx(path: Path) -> bool:
    """Return whether `path` is an ONNX file, or a folder with an export for ONNX."""
    return (path.is_file() and path.suffix == ".onnx") or (path / MODEL).is_file()


@dataclass(frozen=True, kw_only=True)
class _Target:
    """The network and the depth that the features of an aligned export can be compared with."""

    digest: str
    depth: int


@dataclass(frozen=True, kw_only=True)
class _Description:
    """Input of an export, from its model.json."""

    depth: int
    dim: int
    input: str
    preprocessing: Preprocessing
    aligned_to: _Target | None = None


class OnnxEncoder(FrozenEncoder):
    """Runs an export with onnxruntime, as many threads as torch has.

    Its only depth is the one that it was cut at, or of an aligned one the depth that it is aligned with.

    Raises:
        UserError: onnxruntime is not installed, the file cannot be run, or there is no model.json that describes it.
    """

    def __init__(self, path: Path) -> None:
        require("export", "onnxruntime", purpose="an ONNX export")
        file = path if path.is_file() else path / MODEL
        about = _describe(file)
        how = about.preprocessing
        depth = about.aligned_to.depth if about.aligned_to else about.depth
        self.name, self.dims = str(path), {depth: about.dim}
        self.aligned_to = about.aligned_to.digest if about.aligned_to else ""
        self.image_size, self.store_size = how.image_size, how.store_size
        self._folded = about.input.startswith("uint8")
        self.mean, self.std = NO_NORMALIZATION if self._folded else (how.mean, how.std)
        self.interpolation = as_interpolation(how.interpolation)
        self.digest, self._session = _digest(file), _session(file)

    def to(self, device: torch.device) -> None:
        """Stay on the CPU."""

    def features(self, images: Tensor, depths: Sequence[int], feature_maps: bool = False) -> Features:
        """Run the session; an export has no feature maps."""
        if feature_maps:
            raise UserError(f"'{self.name}' is an ONNX file, which has no feature maps: name the run", code="no-maps")
        given = images.cpu()
        if self._folded:
            given = (255 * given).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
        name = self._session.get_inputs()[0].name
        vectors = torch.from_numpy(self._session.run([OUTPUT], {name: given.numpy()})[0])
        return Features(vectors, {self.last: vectors}, {})


def _describe(file: Path) -> _Description:
    description = file.with_name(DESCRIPTION)
    found = read_json(description, "export the network again") if description.is_file() else {}
    needed = [field.name for field in fields(_Description) if field.default is MISSING]
    if not isinstance(found, dict) or (missing := [key for key in needed if key not in found]):
        what = f"does not state '{missing[0]}' of '{file.name}'" if isinstance(found, dict) else "describes no network"
        raise UserError(f"'{description}' {what}: export the network again", code="damaged-export")
    used = {field.name for field in fields(_Description)} & {*found}
    return from_json(_Description, {key: found[key] for key in used}, str(description))


def _digest(file: Path) -> str:
    """Return the sha256 of the file, of weights that lie beside it, and of what describes its input."""
    digest = sha256()
    for part in [*sorted(file.parent.glob(f"{file.name}*")), file.with_name(DESCRIPTION)]:
        with part.open("rb") as stream:
            digest.update(f"{part.name} {part.stat().st_size}".encode())
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every kind
        raise UserError(f"'{file}' cannot be run: {one_line(error)}", code="damaged-export") from error
    if OUTPUT not in (names := [output.name for output in session.get_outputs()]):
        raise UserError(
            f"'{file}' has the outputs {', '.join(names)} and none of the name '{OUTPUT}', as exports of Limbeck have",
            code="damaged-export",
        )
    return session
