"""A detector of unusual places as one ONNX file: the network, the memory and the distances."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.disk import check_writable
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_folder, write_json
from limbeck.core.packages import require
from limbeck.downstream.anomalies.config import Compare
from limbeck.downstream.anomalies.patches import PatchMemory, patch_distances
from limbeck.downstream.anomalies.source import Outliers
from limbeck.embeddings.encoders import BackboneEncoder
from limbeck.exports.onnx_file import open_session, write_onnx
from limbeck.models.backbone import Backbone

OUTPUTS = ("scores", "heat_maps")
TOLERANCE = 1e-2  # largest difference of a distance from the one in memory, relative to the largest distance
PROVED = 8  # images on which the file is compared


class PatchDetector(nn.Module):
    """Maps normalized images [B 3 H W] to the score [B] of each, and the distance [B h w] of each of its places."""

    memory: Tensor

    def __init__(self, backbone: Backbone, depth: int, memory: PatchMemory) -> None:
        super().__init__()
        self.backbone, self.depth = backbone.cut(depth), depth
        self.register_buffer("memory", memory.vectors)

    def forward(self, images: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, " B"], Float[Tensor, "B h w"]]:
        """Compare every place of the feature map with the memory."""
        maps = self.backbone(images, (self.depth,), feature_maps=True).feature_maps[self.depth]
        distances = patch_distances(maps, self.memory).amin(dim=3)
        return distances.amax(dim=(1, 2)), distances


def check_detector(out: Path, compare: Compare) -> None:
    """Raise UserError unless a detector can be made of what is compared, and written to the new folder `out`."""
    if compare != "patches":
        raise UserError(
            f"a detector remembers places of feature maps, and {compare} are compared: take --compare patches",
            code="no-detector",
        )
    require("export", "onnx", "onnxruntime", "onnxscript", purpose="a detector")
    check_writable(out.absolute().parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"'{out}' already exists and is not an empty folder; choose another or remove it", code="out-not-empty"
        )


def export_detector(found: Outliers, out: Path) -> float:
    """Write model.onnx, model.json and README.md to the new folder `out`; return the largest difference of a distance.

    The file takes normalized images and returns `scores` [B] and `heat_maps` [B h w], in float32. Before it appears it
    is compared with PyTorch on images of the source.

    Raises:
        UserError: no patches were compared, the network is no backbone, or `out` is not empty.
        RuntimeError: the file computes something else.
    """
    check_detector(out, found.compare)
    network, memory = found.network, found.memory
    if memory is None or not isinstance(network, BackboneEncoder):
        raise UserError(
            f"'{network.name}' cannot become a part of a detector: give a run, an encoder, a timm export or timm:NAME",
            code="no-backbone",
        )
    detector = PatchDetector(network.backbone, found.depth, memory).cpu().eval()
    rows = np.arange(min(PROVED, len(found.store)))
    with atomic_folder(out.absolute()) as folder, torch.no_grad():
        images = network.images(found.store, torch.device("cpu"))(rows)
        write_onnx(detector, images[:2], folder / "model.onnx", OUTPUTS)
        difference = _difference(detector, folder / "model.onnx", images)
        _describe(found, network, difference, folder)
    return difference


def _difference(detector: PatchDetector, file: Path, images: Tensor) -> float:
    found = open_session(file, 1).run(list(OUTPUTS), {"images": images.numpy()})
    expected = detector(images)
    largest = max(
        float((want - torch.from_numpy(have)).abs().max()) for want, have in zip(expected, found, strict=True)
    )
    if not largest <= TOLERANCE * max(1.0, float(expected[0].max())):  # also when one of them is not a number
        raise RuntimeError(f"the detector differs from the network by {largest:.1e} and was removed")
    return largest


def _describe(found: Outliers, network: BackboneEncoder, difference: float, folder: Path) -> None:
    """Write model.json and README.md."""
    size = network.image_size
    about = {
        "format": "onnx",
        "input": "float32 [B 3 H W], in [0, 1], then normalized",
        "outputs": {"scores": "float32 [B]", "heat_maps": "float32 [B h w]"},
        "threshold": found.threshold,
        "depth": found.depth,
        "memory": len(found.memory.vectors) if found.memory else 0,
        "network": network.label,
        "difference": difference,
        "preprocessing": {
            "image_size": size,
            "store_size": network.store_size or found.store.size,
            "mean": list(network.mean),
            "std": list(network.std),
            "interpolation": network.interpolation,
        },
    }
    write_json(folder / "model.json", about)
    above = "" if found.threshold is None else f" A score above {found.threshold:.6g} is unusual."
    (folder / "README.md").write_text(_README.format(size=size, above=above), encoding="utf-8")


_README = """# A detector of unusual images

`model.onnx` maps normalized images, float32 [B 3 {size} {size}], to `scores` [B] and `heat_maps` [B h w].{above}
`model.json` has the preprocessing and everything else. Written by Limbeck.

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
scores, heat_maps = session.run(["scores", "heat_maps"], {{"images": images}})
```
"""
