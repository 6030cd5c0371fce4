"""A plain CNN without residual branches, which learns the most in the first minutes of a CPU.

timm has no network of plain convolutions for small images: this is its `ByobNet` with blocks of one convolution each,
registered as "plain_cnn". The file needs no other of Limbeck, so that it can lie beside weights.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg, LayerFn, register_block
from torch import nn

NAME = "plain_cnn"
"""Name of the function below, under which timm builds it."""

default_cfgs = generate_default_cfgs(
    {NAME: {"input_size": (3, 32, 32), "first_conv": "stem.conv", "classifier": "head.fc"}}
)
"""Configuration that timm requires of every network: no pretrained weights."""


class PlainBlock(nn.Sequential):
    """A max-pool if there is a stride, a 3x3 convolution, its norm and its activation."""

    def __init__(self, in_chs: int, out_chs: int, stride: int, layers: LayerFn, **_: Any) -> None:
        super().__init__(
            nn.MaxPool2d(stride) if stride > 1 else nn.Identity(),
            layers.conv_norm_act(in_chs, out_chs, kernel_size=3),
        )


register_block("plain", PlainBlock)


def plain_cnn(
    pretrained: bool = False,
    stem_width: int = 32,
    channels: Sequence[int] = (96, 160, 256),
    depths: Sequence[int] = (1, 2, 1),
    stem_pool: str = "",
    **kwargs: Any,
) -> ByobNet:
    """Build a 7x7 convolution of stride 2 and stages of 3x3 convolutions, halved by a max-pool from the second on.

    By default it has 0.8 million parameters, and 0.04 billion multiplications for an image of 32 pixels.

    Args:
        pretrained: as timm passes it; there are no weights.
        stem_width: channels of the first convolution.
        channels: channels of every stage.
        depths: convolutions of every stage.
        stem_pool: "max" for a max-pool after the first convolution.
        kwargs: further arguments of timm's `ByobNet`.

    Raises:
        ValueError: a number that is not positive, or no multiple of 8; another pool.
    """
    if len(channels) != len(depths) or not all(isinstance(n, int) and n > 0 for n in (stem_width, *channels, *depths)):
        raise ValueError(
            f"stem_width is {stem_width}, channels are {channels} and depths {depths}: they are positive whole "
            "numbers, as many channels as depths"
        )
    if any(width % 8 for width in channels):
        raise ValueError(f"channels are {channels}: timm takes multiples of 8")
    if stem_pool not in ("", "max"):
        raise ValueError(f"stem_pool is '{stem_pool}': it is 'max', or '' for none")
    stages = [
        ByoBlockCfg(type="plain", d=depth, c=width, s=1 if stage == 0 else 2)
        for stage, (depth, width) in enumerate(zip(depths, channels, strict=True))
    ]
    cfg = ByoModelCfg(blocks=tuple(stages), stem_chs=stem_width, stem_type="7x7", stem_pool=stem_pool)
    model: ByobNet = build_model_with_cfg(
        ByobNet, NAME, pretrained, model_cfg=cfg, feature_cfg={"flatten_sequential": True}, **kwargs
    )
    return model


if not is_model(NAME):  # which Limbeck and a copy beside weights may both bring
    register_model(plain_cnn)
