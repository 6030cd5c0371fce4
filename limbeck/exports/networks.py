"""The network that is exported: with its preprocessing inside, or as it is; and the three formats it is written in."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from limbeck.exports.refusal import not_exportable
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import NOT_IN_TIMM, Preprocessing, save_encoder, timm_format
from limbeck.models.standalone import load as load_standalone

Network = Callable[[Tensor], Tensor]  # images -> features [B D]


class FoldedPreprocessing(nn.Module):
    """A network that takes uint8 images [B H W 3] in [0, 255] and normalizes them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocessing.std).view(3, 1, 1))

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Normalize the images and return their features."""
        features: Tensor = self.model((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return features


def write_timm(
    backbone: Backbone, preprocessing: Preprocessing, provenance: Mapping[str, Any], folder: Path
) -> Network:
    """Write a folder for timm, and return the network that is read from it."""
    save_encoder(backbone, folder, preprocessing, provenance)
    if timm_format(backbone)[0] == NOT_IN_TIMM:
        return load_standalone(folder)
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return model


def free_axes(names: Sequence[str]) -> dict[int, Any]:
    """Return the first axes of an input under these names, as axes of any size."""
    return {axis: torch.export.Dim(name) for axis, name in enumerate(names)}


def write_torch(model: nn.Module, images: Tensor, folder: Path, free: Sequence[str] = ("batch",)) -> Network:
    """Write model.pt2, whose first axes `free` may have any size, and return the network that is read from it.

    Raises:
        UserError: what the network computes depends on values in a way that no program can have.
    """
    path = folder / "model.pt2"
    try:
        program = torch.export.export(model, (images,), dynamic_shapes=(free_axes(free),))
    except Exception as error:  # its passes raise errors of their own
        raise not_exportable("written as a program of PyTorch", error, "choose format timm") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    content = io.BytesIO()  # on a full disk torch would end the process by itself
    torch.export.save(program, content)
    path.write_bytes(content.getbuffer())
    return torch.export.load(path).module()  # reads pickles, but this one was written a line ago
