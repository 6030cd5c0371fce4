"""Any timm model as a backbone: features at every depth in one pass, and a cut anywhere that is a timm model again."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError, did_you_mean, one_line
from limbeck.core.types import Encoder, Features
from limbeck.core.untrusted import is_unsafe_for_timm, refuse_keys
from limbeck.models.surgery import TruncatedModel, feature_table, small_stem_of, timm_defaults
from limbeck.models.vit_init import fix_positions, init_as_moco

VITS = (
    "vision_transformer",
    "vision_transformer_hybrid",
    "deit",
    "eva",
    "beit",
)  # timm modules: blocks, tokens, one final norm
SMALL_IMAGE = 64  # pixels; up to here a CNN gets the stem for small images unless told otherwise


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Which network, and how it starts.

    ViTs (timm's `vision_transformer`, `deit`, `eva` and `beit` families) start as SDSSL's do unless told otherwise:
    MoCo v3's random weights, fixed positions, a frozen patch embedding.
    """

    name: str = "vit_tiny_patch16_224"
    """Any timm model that has `forward_intermediates`."""
    image_size: int | None = None
    """Side of the images in pixels; None is the network's own (224 for most)."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further timm arguments (JSON values), such as patch_size, embed_dim, depth, global_pool, channels.

    A ResNet-18 of a quarter of its width is {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}:
    timm's plain stem is always 64 wide, its deep one 2 * stem_width, and the small stem keeps the width that it finds.
    """
    small_stem: bool | None = None
    """CNNs: start with a 3x3 convolution of stride 1 and no max-pool (families: `surgery.SMALL_STEMS`).

    None: where img_size is at most 64 and the family has one.
    """
    stem_pool: bool = False
    """ResNets with a small stem: keep the max-pool, which makes every map a quarter as large (usual at 64 pixels)."""
    freeze_patch_embed: bool = True
    """ViTs: the patch embedding keeps its random start (MoCo v3's remedy for instability)."""
    sincos_positions: bool = True
    """ViTs with absolute positions: fixed 2-D sin-cos ones."""
    init: Literal["moco", "timm"] = "moco"
    """ViTs: MoCo v3's weights or timm's."""
    pretrained: bool = False
    """Start from timm's weights, which then bring their own positions; downloads them."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    cut: int | None = None
    """Keep blocks or stages 1..cut only."""
    per_layer_norm: bool = False
    """ViTs: every depth has a final norm of its own instead of a shared one (as in SDSSL's runs of 2021 and 2022)."""

    def __post_init__(self) -> None:
        """Raise UserError for a name or an argument with which timm would read weights; configurations are shared."""
        if self.name == "limbeck_backbone":
            raise UserError(
                f"the network '{self.name}' cannot be named in a configuration: name timm's network, with small_stem "
                "or cut",
                code="unsafe-config",
            )
        refuse_keys(self.args, is_unsafe_for_timm, f"the arguments of '{self.name}'")


class Backbone(Encoder):
    """A timm model that answers with pooled vectors and maps at any depth.

    Taps count from 1: blocks of a ViT, stages of anything else. A ViT's tap is pooled as the model pools (CLS, or the
    mean of the patches), with the final norm applied at every depth (one for all, or with `per_layer_norm` one each);
    any other network's is the global average of its stage. The last tap is `final`.

    Attributes:
        model: the timm model, without classifier; `model(images)` is `final`.
        dim: width of `final`.
        taps: (1, ..., depth).
        tap_dims: width of each tap.
        map_dims: channels of its map; another number at the last tap of networks whose head widens it.
    """

    cfg: BackboneConfig

    def __init__(self, cfg: BackboneConfig, model: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.model = model
        self.dim: int = model.head_hidden_size
        self._table = feature_table(model)[: cfg.cut]
        self.taps = tuple(range(1, len(self._table) + 1))
        self.map_dims = {tap: self._table[tap - 1][1] for tap in self.taps}
        self.tap_dims = {**self.map_dims, self.taps[-1]: self.dim}
        self.is_vit = timm.models.is_model_in_modules(cfg.name, VITS)
        own = self.taps[:-1] if cfg.per_layer_norm else ()
        self.tap_norms = nn.ModuleDict({str(tap): copy.deepcopy(model.norm) for tap in own})

    def forward(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """Images [B 3 H W] -> `final` [B D] and at `taps` [B D_tap], with `feature_maps` also [B C H W], in one pass.

        A CNN's last map is its last stage: the average is `final` only where the head adds nothing, as in a ResNet.
        """
        wanted = sorted(set(taps))
        self._check(wanted)
        if not wanted:
            return Features(self.model(x), {}, {})
        return self._vit(x, wanted, feature_maps) if self.is_vit else self._stages(x, wanted, feature_maps)

    def cut(self, depth: int, *, share: bool = False) -> "Backbone":
        """Blocks or stages 1..`depth` with copied weights: in eval mode its `final` is this one's tap `depth`.

        With `share` the weights are not copied: the cut and this network use the same memory.

        A ViT keeps its final norm; any other network loses what follows the stage (head norm, last convolution), unless
        `depth` is its whole depth.
        """
        self._check([depth])
        shorter = self.cfg if depth == self.taps[-1] else replace(self.cfg, cut=depth)
        with torch.random.fork_rng(devices=[]):  # the random start is overwritten and must not move the run's generator
            cut = build_backbone(shorter)
        weights = _body(self.model).state_dict()
        body = _body(cut.model)
        body.load_state_dict({name: weights[name] for name in body.state_dict()}, assign=share)
        for tap in cut.taps if self.cfg.per_layer_norm else ():
            cut._norm(tap).load_state_dict(self._norm(tap).state_dict(), assign=share)
        return cut.to(next(self.parameters())).train(self.training)

    def _check(self, taps: Sequence[int]) -> None:
        for tap in taps:
            if tap not in self.taps:
                raise UserError(f"Depth {tap} is not in '{self.cfg.name}': choose 1 to {self.taps[-1]}.")

    def _vit(self, x: Tensor, taps: list[int], feature_maps: bool) -> Features:
        model = self.model
        prefixed = model.num_prefix_tokens > 0
        tokens, states = model.forward_intermediates(
            x, indices=[tap - 1 for tap in taps], return_prefix_tokens=prefixed, output_fmt="NLC"
        )
        final = model.forward_head(tokens, pre_logits=True)
        pairs = {tap: state if prefixed else (state, state[:, :0]) for tap, state in zip(taps, states, strict=True)}
        vectors = {tap: self._pool(tap, prefix, patches) for tap, (patches, prefix) in pairs.items()}
        if self.taps[-1] in vectors:
            vectors[self.taps[-1]] = final
        grid = model.patch_embed.dynamic_feat_size(x.shape[-2:])
        squares = {tap: self._square(tap, patches, grid) for tap, (patches, _) in pairs.items()} if feature_maps else {}
        return Features(final, vectors, squares)

    def _norm(self, tap: int) -> nn.Module:
        own = str(tap) in self.tap_norms
        return self.tap_norms[str(tap)] if own else self.model.norm

    def _pool(self, tap: int, prefix: Tensor, patches: Tensor) -> Tensor:
        from_cls = self.model.global_pool == "token"
        tokens = prefix if from_cls else torch.cat([prefix, patches], dim=1)  # what is not pooled need not be normed
        return self.model.forward_head(self._norm(tap)(tokens), pre_logits=True)

    def _square(self, tap: int, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        return self._norm(tap)(patches).transpose(1, 2).unflatten(2, grid).contiguous()

    def _stages(self, x: Tensor, taps: list[int], feature_maps: bool) -> Features:
        indices = [self._table[tap - 1][0] for tap in taps]
        last, squares = self.model.forward_intermediates(x, indices=indices)
        final = self.model.forward_head(last)
        vectors = {tap: square.mean(dim=(2, 3)) for tap, square in zip(taps, squares, strict=True)}
        if self.taps[-1] in vectors:
            vectors[self.taps[-1]] = final
        return Features(final, vectors, dict(zip(taps, squares, strict=True)) if feature_maps else {})


def build_backbone(cfg: BackboneConfig) -> Backbone:
    """The network of `cfg`, with random weights from torch's global generator. Its own `cfg` never downloads anything.

    Raises:
        UserError: an unknown name or depth, arguments that timm refuses, a size or a stem that does not fit.
    """
    if cfg.pretrained and cfg.cut is not None:
        return build_backbone(replace(cfg, cut=None)).cut(cfg.cut)
    name, args = timm_recipe(cfg)
    model = _create(name, args)
    if cfg.pretrained:
        cfg = replace(cfg, pretrained=False, init="timm", sincos_positions=False)
    is_vit = timm.models.is_model_in_modules(cfg.name, VITS)
    if is_vit:
        _start_vit(model, cfg)
    if cfg.per_layer_norm and (not is_vit or isinstance(model.norm, nn.Identity)):
        raise UserError(f"'{cfg.name}' with {cfg.args} has no final norm over its tokens; leave per_layer_norm out.")
    model.set_grad_checkpointing(cfg.checkpointing)
    return Backbone(cfg, model)


def timm_recipe(cfg: BackboneConfig) -> tuple[str, dict[str, Any]]:
    """(name, arguments) with which `timm.create_model` builds the network of `cfg`: timm's own wherever they suffice.

    A ViT is cut by `depth`, a ResNet by `layers` (an empty stage is the identity); the rest goes through
    `limbeck_backbone`, which timm knows once `limbeck.models.backbone` is imported.
    """
    _check_name(cfg.name)
    args = _whole_args(cfg)
    small = _wants_small_stem(cfg)
    cut = cfg.cut
    if cut is not None:
        whole = _create(cfg.name, {**args, "pretrained": False})
        table = feature_table(whole)
        if not 1 <= cut <= len(table):
            raise UserError(f"Depth {cut} is not in '{cfg.name}': choose 1 to {len(table)}.")
        stock = _stock_cut(cfg.name, whole, cut)
        args, cut = {**args, **stock}, None if stock or cut == len(table) else cut
    stem: dict[str, Any] = {"small_stem": True, **({"stem_pool": True} if cfg.stem_pool else {})} if small else {}
    changes = {**stem, **({"cut": cut} if cut is not None else {})}
    return ("limbeck_backbone", {"arch": cfg.name, "args": args, **changes}) if changes else (cfg.name, args)


def _stock_cut(name: str, whole: Any, cut: int) -> dict[str, Any]:
    """timm arguments that cut `whole` after block or stage `cut`, or nothing where timm has none."""
    if timm.models.is_model_in_modules(name, VITS):
        return {"depth": cut}
    if not timm.models.is_model_in_modules(name, ("resnet",)) or cut == 4:
        return {}
    stages = [whole.layer1, whole.layer2, whole.layer3, whole.layer4][:cut]
    layers = [len(stage) for stage in stages]
    if sum(layers) == 1:  # timm divides by the number of blocks less one
        return {}
    widths = [channels // stages[0][0].expansion for _, channels in feature_table(whole)][:cut]
    return {"layers": layers + [0] * (4 - cut), "channels": widths + widths[-1:] * (4 - cut)}


def _whole_args(cfg: BackboneConfig) -> dict[str, Any]:
    fixed = timm_defaults(cfg.name).fixed_input_size  # timm's mark of networks that take `image_size`
    size = {"img_size": cfg.image_size} if fixed and cfg.image_size is not None else {}
    return {**cfg.args, **size, **({"pretrained": True} if cfg.pretrained else {}), "num_classes": 0}


def _wants_small_stem(cfg: BackboneConfig) -> bool:
    if cfg.small_stem is not None:
        return cfg.small_stem
    return cfg.image_size is not None and cfg.image_size <= SMALL_IMAGE and small_stem_of(cfg.name) is not None


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        raise UserError(
            f"timm has no model '{name}'{did_you_mean(name, timm.list_models())}; timm.list_models() lists them."
        )
    arch, _, tag = name.partition(".")
    tagged = timm.list_pretrained(f"{arch}.*")
    if tag and name not in tagged:
        raise UserError(
            f"timm has no weights '{tag}' for '{arch}'{did_you_mean(name, tagged)}; it has {', '.join(tagged)}."
        )


def _create(name: str, args: dict[str, Any]) -> Any:
    try:
        model = timm.create_model(name, **args)
    except UserError:
        raise
    except Exception as error:  # the constructors of a thousand networks raise any kind
        raise UserError(f"timm cannot build '{name}' with {args}: {one_line(error)}.") from error
    if not callable(getattr(model, "forward_intermediates", None)):  # timm does not list which of its models have it
        raise UserError(f"'{name}' has no forward_intermediates in timm, which taps need; choose another model.")
    return model


def _start_vit(model: Any, cfg: BackboneConfig) -> None:
    side, patch = cfg.image_size, model.patch_embed.patch_size[0]
    if side is not None and side % patch:
        raise UserError(
            f"image_size {side} is not a multiple of '{cfg.name}'s patch size {patch}; change one (args: patch_size)."
        )
    if cfg.init == "moco":
        init_as_moco(model)
    if cfg.sincos_positions and model.pos_embed is not None:
        if model.embed_dim % 4:
            raise UserError(
                f"Sin-cos positions need an embed_dim of 4 n, not {model.embed_dim}; set sincos_positions=False."
            )
        fix_positions(model)
    if cfg.freeze_patch_embed:
        model.patch_embed.proj.requires_grad_(False)


def _body(model: nn.Module) -> nn.Module:
    """The timm network itself, whose names a whole network and its cuts share."""
    return model.body if isinstance(model, TruncatedModel) else model
