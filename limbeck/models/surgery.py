"""Changes to timm networks that timm's own arguments cannot express: a stem for small images, a cut at any depth.

`standalone.py` repeats them for programs without Limbeck, which get it next to the weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import timm
from jaxtyping import Float
from timm.models import PretrainedCfg
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.models import plain_cnn

# Entries of timm's `feature_info` that belong to the stem, which is no stage and therefore no tap
STEMS = ("act1", "bn1", "conv_stem", "stem", "features.norm0")

# timm modules of vision transformers: blocks, tokens, one final norm
VITS = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva", "beit")


def is_vit(arch: str) -> bool:
    """Return whether timm builds `arch` from blocks that share one final norm."""
    return bool(timm.models.is_model_in_modules(arch, VITS))


def feature_table(model: Any) -> list[tuple[int, int]]:
    """Return (index for `forward_intermediates`, channels) of every block or stage of a timm model, in order."""
    stem = tuple(f"{name}." for name in STEMS)
    return [
        (i, info["num_chs"]) for i, info in enumerate(model.feature_info) if not f"{info['module']}.".startswith(stem)
    ]


def is_own(arch: str) -> bool:
    """Return whether Limbeck brings `arch` to timm, so that stock timm does not know it."""
    return arch == plain_cnn.NAME


def timm_defaults(name: str) -> PretrainedCfg:
    """Return timm's record of the input and the layers of a model, or its bare defaults where there is none."""
    return timm.models.get_pretrained_cfg(name) or PretrainedCfg()


def _conv3x3(channels: int, width: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, width, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _small_resnet(model: Any, pool: bool) -> None:
    model.conv1 = _conv3x3(model.in_chans, model.bn1.num_features)
    if not pool:
        model.maxpool = nn.Identity()


def _small_conv_stem(model: Any, _: bool) -> None:
    model.conv_stem = _conv3x3(model.conv_stem.in_channels, model.conv_stem.out_channels)


# timm module of a network -> function that makes its stem small, in place; the flag keeps the max-pool of a ResNet
SMALL_STEMS: dict[str, Callable[[Any, bool], None]] = {
    "resnet": _small_resnet,
    "res2net": _small_resnet,
    "sknet": _small_resnet,
    "efficientnet": _small_conv_stem,
    "mobilenetv3": _small_conv_stem,
    "ghostnet": _small_conv_stem,
}


def small_stem_of(arch: str) -> Callable[[Any, bool], None] | None:
    """Return the function that gives networks of `arch`'s family a small stem, or None where the family has none."""
    return next(
        (change for module, change in SMALL_STEMS.items() if timm.models.is_model_in_modules(arch, (module,))), None
    )


class TruncatedModel(nn.Module):
    """Stages 1..`depth` of a timm network that is no ViT, followed by a global average; the rest is removed."""

    def __init__(self, body: Any, depth: int) -> None:
        super().__init__()
        self.last, self.num_features = feature_table(body)[depth - 1]
        body.prune_intermediate_layers([self.last], prune_norm=True, prune_head=True)
        self.body = body
        self.head_hidden_size, self.num_classes = self.num_features, 0
        self.feature_info = body.feature_info

    def forward_intermediates(self, x: Tensor, indices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Return the last feature map [B C H W], and those at `indices` (ascending, as in timm)."""
        wanted = sorted({*indices, self.last})
        maps = self.body.forward_intermediates(x, indices=wanted, stop_early=True, intermediates_only=True)
        return maps[-1], [found for index, found in zip(wanted, maps, strict=True) if index in indices]

    def forward_head(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        """Average over positions."""
        return x.mean(dim=(2, 3))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Map images to the average of the last stage."""
        return self.forward_head(self.forward_intermediates(x, ())[0])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass, as timm's method of this name does."""
        self.body.set_grad_checkpointing(enable)


def timm_network(model: nn.Module) -> Any:
    """Return the timm network itself, whose parameter names do not depend on a cut."""
    return model.body if isinstance(model, TruncatedModel) else model


def truncate(model: nn.Module, arch: str, depth: int) -> nn.Module:
    """Remove what follows block or stage `depth` of a timm network, in place; UserError for a depth it does not have.

    A ViT keeps its final norm and stays what it is. Any other network is wrapped in `TruncatedModel`.
    """
    body = timm_network(model)
    last = len(feature_table(body))
    if not 1 <= depth <= last:
        raise UserError(f"depth {depth} is not in '{arch}': choose 1 to {last}", code="depth-out-of-range")
    if is_vit(arch):
        body.prune_intermediate_layers([depth - 1], prune_norm=False, prune_head=False)
        return model
    return model if depth == last else TruncatedModel(body, depth)


def shrink_stem(model: nn.Module, arch: str, pool: bool) -> None:
    """Give a network a stem for small images, in place; UserError where its family has none."""
    change = small_stem_of(arch)
    if change is None:
        families = ", ".join(SMALL_STEMS)
        message = f"'{arch}' has no small stem; leave small_stem out or choose a network of {families}"
        raise UserError(message, code="no-small-stem")
    change(model, pool)
