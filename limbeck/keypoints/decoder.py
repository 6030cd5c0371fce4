"""AutoLink's decoder, which paints an image from the edges of its keypoints and a few cells of the image itself.

xingzhehe/AutoLink 3fbde11, `models/decoder.py`.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.keypoints.network import SLOPE, conv3


class EdgeDecoder(nn.Module):
    """A U-Net of four levels: images with hidden cells and edge maps to images [B 3 S S] without bounds.

    Args:
        width: channels of the first convolution; the levels have 2, 4, 8 and 8 times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))
        self.first = nn.Sequential(conv3(4, width), nn.LeakyReLU(SLOPE))
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.down = nn.ModuleList(_halving(*pair) for pair in pairwise(widths))
        outs = [8 * width, 4 * width, 2 * width, width]
        inputs = [8 * width, 16 * width, 8 * width, 4 * width]
        self.up = nn.ModuleList(_doubling(*pair) for pair in zip(inputs, outs, strict=True))
        self.last = conv3(2 * width, 3)

    def forward(self, shown: Float[Tensor, "B 3 S S"], edges: Float[Tensor, "B 1 S S"]) -> Float[Tensor, "B 3 S S"]:
        """Return the image, from what is shown of it (0 where it is hidden) and the map of its edges."""
        x = self.first(torch.cat([self.alpha * shown, edges], dim=1))
        found = [x]
        for down in self.down:
            found.append(down(found[-1]))
        x = found.pop()
        for up in self.up:
            x = torch.cat([up(x), found.pop()], dim=1)
        painted: Tensor = self.last(x)
        return painted


def _halving(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        conv3(channels, out),
        nn.BatchNorm2d(out),
        nn.LeakyReLU(SLOPE),
        conv3(out, out),
        nn.BatchNorm2d(out),
        nn.AvgPool2d(2),
        nn.LeakyReLU(SLOPE),
    )


def _doubling(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"),
        conv3(channels, out),
        nn.BatchNorm2d(out),
        nn.LeakyReLU(SLOPE),
        conv3(out, out),
        nn.BatchNorm2d(out),
        nn.LeakyReLU(SLOPE),
    )
