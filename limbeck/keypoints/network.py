"""The detector of AutoLink, from images to the places of keypoints.

He, Wandt and Rhodin, *AutoLink*, NeurIPS 2022; xingzhehe/AutoLink 3fbde11, `models/encoder.py`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.types import Encoder, Features
from limbeck.keypoints.config import DEPTH, DetectorConfig
from limbeck.losses.edges import GAIN, edge_weights, soft_argmax

SLOPE = 0.2  # of the leaky ReLU
FIRST_SCORE, SCORE_SPREAD = -4.0, 0.1  # of the edges, times GAIN: all edges start faint


class HalvingBlock(nn.Module):
    """A residual block that halves the sides."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.skip = nn.Sequential(conv3(channels, out), nn.AvgPool2d(2), nn.BatchNorm2d(out))
        self.main = nn.Sequential(
            conv3(channels, out),
            nn.AvgPool2d(2),
            nn.BatchNorm2d(out),
            nn.LeakyReLU(SLOPE),
            conv3(out, out),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B _ h w"]:
        """Return the sum of both branches behind the nonlinearity."""
        return F.leaky_relu(self.main(x) + self.skip(x), SLOPE)


class Detector(Encoder):
    """Map images [B 3 S S] in [-1, 1] to keypoints: `final` [B 2K] has row and column of each, from -1 to 1.

    The taps 1 to 6 are the blocks, and 7 the heat maps [B K S/4 S/4] of which the keypoints are the mean places. The
    scores of the edges belong to the network, since they say how its keypoints are connected; no feature depends on
    them.
    """

    cfg: DetectorConfig

    def __init__(self, cfg: DetectorConfig) -> None:
        super().__init__()
        widths = cfg.widths()
        halving = [HalvingBlock(*pair) for pair in zip([3, *widths[:3]], widths[:4], strict=True)]
        doubling = [_doubling(*pair) for pair in pairwise(widths[3:6])]
        self.blocks = nn.ModuleList([*halving, *doubling, conv3(*widths[5:])])
        scores = SCORE_SPREAD * torch.randn(cfg.keypoints, cfg.keypoints) + FIRST_SCORE
        self.edge_scores = nn.Parameter(scores / GAIN)
        self.cfg, self.dim, self.taps = cfg, 2 * cfg.keypoints, tuple(range(1, DEPTH + 1))
        self.map_dims = dict(zip(self.taps, widths, strict=True))
        self.tap_dims = {**self.map_dims, DEPTH: self.dim}

    def forward(self, x: Float[Tensor, "B 3 S S"], taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """Return the keypoints; pooled vectors of blocks are the mean over places."""
        maps: dict[int, Tensor] = {}
        for tap, block in zip(self.taps, self.blocks, strict=True):
            x = maps[tap] = block(x)
        final = soft_argmax(x).flatten(1)
        vectors = {tap: final if tap == DEPTH else maps[tap].mean(dim=(2, 3)) for tap in taps}
        return Features(final, vectors, {tap: maps[tap] for tap in taps} if feature_maps else {})

    def edges(self) -> Float[Tensor, "K K"]:
        """Return the weight of the edge of keypoints i < j at row i and column j."""
        return edge_weights(self.edge_scores)

    def cut(self, depth: int) -> NoReturn:
        """Raise UserError: keypoints are found by all blocks together."""
        raise UserError(
            f"a keypoint detector cannot be cut at depth {depth}: its keypoints need all of its blocks; leave the "
            "depth out",
            code="no-cut",
        )


def conv3(channels: int, out: int) -> nn.Conv2d:
    """Return a convolution of 3 x 3 pixels that starts as AutoLink's do: Kaiming's normal weights, biases of 0."""
    conv = nn.Conv2d(channels, out, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # a convolution has a bias unless told otherwise
    return conv


def _doubling(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"), conv3(channels, out), nn.BatchNorm2d(out), nn.LeakyReLU(SLOPE)
    )
