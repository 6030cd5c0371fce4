"""The networks that timm's own arguments cannot express: a small-image stem, and other networks than ViTs cut short.

They are named through one timm entry point, `limbeck_backbone`, so that `timm.create_model` builds them once this
module is imported.
"""

from collections.abc import Callable, Sequence
from typing import Any

import timm
from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from limbeck.core.errors import UserError

default_cfgs = generate_default_cfgs({"limbeck_backbone": {}})  # where timm's registry looks

# Entries of timm's `feature_info` that are the stem: it is no stage, so it is no tap.
STEMS = ("act1", "bn1", "conv_stem", "stem", "features.norm0")


def feature_table(model: Any) -> list[tuple[int, int]]:
    """(index for `forward_intermediates`, channels) of every block or stage of a timm model, first to last."""
    stem = tuple(f"{name}." for name in STEMS)
    return [
        (i, info["num_chs"]) for i, info in enumerate(model.feature_info) if not f"{info['module']}.".startswith(stem)
    ]


def timm_defaults(name: str) -> PretrainedCfg:
    """What timm knows of the input and the layers of model `name`; its bare defaults for a model that says nothing."""
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


# timm module of a network -> how its stem is made small, in place; the flag keeps the max-pool of a ResNet
SMALL_STEMS: dict[str, Callable[[Any, bool], None]] = {
    "resnet": _small_resnet,
    "res2net": _small_resnet,
    "sknet": _small_resnet,
    "efficientnet": _small_conv_stem,
    "mobilenetv3": _small_conv_stem,
    "ghostnet": _small_conv_stem,
}


def small_stem_of(arch: str) -> Callable[[Any, bool], None] | None:
    """The function that gives the networks of `arch`'s family a small stem, or None where the family has none."""
    return next(
        (change for module, change in SMALL_STEMS.items() if timm.models.is_model_in_modules(arch, (module,))), None
    )


class TruncatedModel(nn.Module):
    """Stages 1..`cut` of a timm network, answered by the global average of the last one; what came after is gone."""

    def __init__(self, body: Any, cut: int) -> None:
        super().__init__()
        self.last, self.num_features = feature_table(body)[cut - 1]
        body.prune_intermediate_layers([self.last], prune_norm=True, prune_head=True)
        self.body = body
        self.head_hidden_size, self.num_classes = self.num_features, 0
        self.feature_info = body.feature_info

    def forward_intermediates(self, x: Tensor, indices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The last map [B C H W], and the maps at `indices` (ascending, as in timm)."""
        wanted = sorted({*indices, self.last})
        maps = self.body.forward_intermediates(x, indices=wanted, stop_early=True, intermediates_only=True)
        return maps[-1], [kept for index, kept in zip(wanted, maps, strict=True) if index in indices]

    def forward_head(self, x: Tensor) -> Tensor:
        """[B C H W] -> [B C], the global average."""
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images [B 3 H W] -> [B C]."""
        return self.forward_head(self.forward_intermediates(x, ())[0])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As timm's."""
        self.body.set_grad_checkpointing(enable)


def _network(
    arch: str, args: dict[str, Any], small_stem: bool = False, stem_pool: bool = False, cut: int | None = None, **_: Any
) -> nn.Module:
    """timm repeats its defaults (classes, channels, size) as further arguments; `args` has said them already."""
    model = timm.create_model(arch, **args)
    if small_stem:
        change = small_stem_of(arch)
        if change is None:
            raise UserError(
                f"'{arch}' has no small stem; drop small_stem or choose a network of {', '.join(SMALL_STEMS)}."
            )
        change(model, stem_pool)
    return model if cut is None else TruncatedModel(model, cut)


@register_model  # type: ignore[untyped-decorator]  # timm has no types
def limbeck_backbone(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm entry point: `arch` built with `args`, then given a small stem (`small_stem`; `stem_pool` keeps a ResNet's
    max-pool) and kept up to stage `cut`.

    `pretrained=True` loads the weights of exactly this network (those beside the config that names it), not of `arch`.
    """
    return build_model_with_cfg(_network, "limbeck_backbone", pretrained, **kwargs)
