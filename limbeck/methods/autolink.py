"""AutoLink: keypoints whose edges suffice, with a few cells of the image, to repaint the image.

He, Wandt and Rhodin, *AutoLink: Self-supervised Learning of Human Skeletons and Object Outlines by Linking Keypoints*,
NeurIPS 2022; xingzhehe/AutoLink 3fbde11.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.core.types import Batch, Features, LossOutput, StepInfo
from limbeck.keypoints.decoder import EdgeDecoder
from limbeck.keypoints.network import Detector
from limbeck.keypoints.perceptual import load_perceptual, perceptual_loss
from limbeck.losses.edges import edge_map
from limbeck.methods.base import Method
from limbeck.methods.config.autolink import CELLS, AutoLinkConfig


class AutoLink(Method):
    """A detector, and a decoder that paints the image from the edges of its keypoints."""

    backbone: Detector
    collapse_hint = "take more keypoints, hide more of the image, or compare it by a perceptual network"

    def __init__(self, backbone: Detector, cfg: AutoLinkConfig) -> None:
        super().__init__()
        self.cfg, self.backbone = cfg, backbone
        self.decoder = EdgeDecoder(backbone.cfg.width)
        perceptual = load_perceptual(cfg.perceptual).eval().requires_grad_(False)
        self._perceptual: tuple[nn.Module, ...] = (perceptual,)  # no submodule, so that no checkpoint holds it

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compare the only view with what is painted."""
        (view,), (hidden,) = batch.views, batch.masks
        return self.repaint(view, hidden, self.backbone(view))

    def repaint(self, view: Float[Tensor, "B 3 S S"], hidden: Bool[Tensor, "B P"], found: Features) -> LossOutput:
        """Compare a view with what is painted from the keypoints that were found in it and from its shown cells."""
        keypoints = found.final.unflatten(1, (-1, 2))
        size = view.shape[-1]
        edges = edge_map(keypoints, self.backbone.edges(), self.cfg.thickness, size)
        painted = self.decoder(view * _shown(hidden, size).to(view.dtype), edges.to(view.dtype))
        total = perceptual_loss(self._perceptual[0].to(view.device, view.dtype), painted, view)
        return LossOutput(total, {"edges": edges.detach().mean()}, {})


def _shown(hidden: Bool[Tensor, "B P"], size: int) -> Float[Tensor, "B 1 S S"]:
    """Return 1 for the pixels of cells that are not hidden, else 0."""
    cells = (~hidden).float().unflatten(1, (CELLS, CELLS))[:, None]
    return F.interpolate(cells, size=(size, size), mode="nearest")
