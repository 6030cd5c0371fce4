"""Any timm model as an encoder: features at every depth in one pass, and a cut at any depth."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import timm
import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError, did_you_mean, one_line
from limbeck.core.types import Encoder, Features
from limbeck.models.config import SMALL_IMAGE, BackboneConfig
from limbeck.models.joined import JoinedFilters, JoinedNetwork
from limbeck.models.surgery import feature_table, is_vit, shrink_stem, small_stem_of, timm_defaults, truncate
from limbeck.models.vit_init import fix_positions, init_as_moco


class Backbone(Encoder):
    """A timm model with pooled vectors and feature maps at any depth.

    Taps count from 1: blocks of a ViT, stages of any other network. A ViT's tap is pooled as the model pools (CLS, or
    the mean of the patches), after the final norm at every depth (one for all, or one each with `per_layer_norm`); any
    other network's tap is the global average of its stage. The last tap is `final`, which `patch_filters` widen.

    Attributes:
        model: the timm model, without classifier.
        joined: what is joined with the features of the model, None unless there are `patch_filters`.
        dim: width of `final`.
        taps: (1, ..., depth).
        tap_dims: width of each tap.
        map_dims: channels of its feature map; they differ from the width at the last tap if the head widens it.
    """

    cfg: BackboneConfig

    def __init__(self, cfg: BackboneConfig, model: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.model = model
        width: int = model.head_hidden_size
        self.joined = JoinedFilters(width, cfg.patch_filters, cfg.normalization) if cfg.patch_filters else None
        self.dim = self.joined.dim if self.joined else width
        self._table = feature_table(model)[: cfg.cut]
        self.taps = tuple(range(1, len(self._table) + 1))
        self.map_dims = {tap: self._table[tap - 1][1] for tap in self.taps}
        self.tap_dims = {**self.map_dims, self.taps[-1]: self.dim}
        self.is_vit = is_vit(cfg.name)
        normed = self.taps[:-1] if cfg.per_layer_norm else ()
        self.tap_norms = nn.ModuleDict({str(tap): copy.deepcopy(model.norm) for tap in normed})

    @property
    def network(self) -> nn.Module:
        """The module from images [B 3 H W] to `final` [B D], without taps; it has the weights of this one."""
        return JoinedNetwork(self.model, self.joined) if self.joined else self.model

    def forward(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """Map images [B 3 H W] to `final` [B D] and, at `taps`, to [B D_tap] and if requested [B C H W], in one pass.

        A CNN's last feature map is its last stage; its average is `final` only if the head adds nothing, as in ResNets.
        """
        wanted = sorted(set(taps))
        self._check(wanted)
        if not wanted:
            return Features(self._final(self.model(x), x), {}, {})
        return self._vit(x, wanted, feature_maps) if self.is_vit else self._stages(x, wanted, feature_maps)

    def cut(self, depth: int, *, share: bool = False) -> "Backbone":
        """Return a copy of blocks or stages 1..`depth`: in eval mode its `final` is this network's tap `depth`.

        With `share` the weights are not copied: the cut and this network use the same memory.

        A ViT keeps its final norm; any other network loses what follows the stage (head norm, last convolution), unless
        `depth` is its whole depth, and so does every network what is joined with its features. Parameters require a
        gradient where those of this network do.
        """
        self._check([depth])
        shared = {id(tensor): tensor for tensor in self.model.state_dict(keep_vars=True).values()} if share else {}
        model = copy.deepcopy(self.model, shared)
        if depth == self.taps[-1]:
            cut = Backbone(self.cfg, model)
        else:
            cut = Backbone(replace(self.cfg, cut=depth, patch_filters=0), truncate(model, self.cfg.name, depth))
        if cut.joined and self.joined:
            cut.joined.load_state_dict(self.joined.state_dict(), assign=share)
        for tap in cut.taps if self.cfg.per_layer_norm else ():
            cut._norm(tap).load_state_dict(self._norm(tap).state_dict(), assign=share)
        return cut.train(self.training)

    def with_filters(self, filters: int) -> "Backbone":
        """Return the network with so many patch filters, not fitted yet, or none; it uses the memory of this one."""
        found = Backbone(replace(self.cfg, patch_filters=filters), self.model)
        found.tap_norms = self.tap_norms
        return found.to(next(self.parameters()).device).train(self.training)

    def _final(self, vector: Tensor, images: Tensor) -> Tensor:
        return self.joined(vector, images) if self.joined else vector

    def _check(self, taps: Sequence[int]) -> None:
        for tap in taps:
            if tap not in self.taps:
                message = f"depth {tap} is not in '{self.cfg.name}': choose 1 to {self.taps[-1]}"
                raise UserError(message, code="depth-out-of-range")

    def _vit(self, x: Tensor, taps: list[int], feature_maps: bool) -> Features:
        model = self.model
        prefixed = model.num_prefix_tokens > 0
        tokens, states = model.forward_intermediates(
            x, indices=[tap - 1 for tap in taps], return_prefix_tokens=prefixed, output_fmt="NLC"
        )
        final = self._final(model.forward_head(tokens, pre_logits=True), x)
        pairs = {tap: state if prefixed else (state, state[:, :0]) for tap, state in zip(taps, states, strict=True)}
        vectors = {tap: self._pool(tap, prefix, patches) for tap, (patches, prefix) in pairs.items()}
        if self.taps[-1] in vectors:
            vectors[self.taps[-1]] = final
        grid = model.patch_embed.dynamic_feat_size(x.shape[-2:])
        maps = {tap: self._square(tap, patches, grid) for tap, (patches, _) in pairs.items()} if feature_maps else {}
        return Features(final, vectors, maps)

    def _norm(self, tap: int) -> nn.Module:
        normed = str(tap) in self.tap_norms
        return self.tap_norms[str(tap)] if normed else self.model.norm

    def _pool(self, tap: int, prefix: Tensor, patches: Tensor) -> Tensor:
        from_cls = self.model.global_pool == "token"
        tokens = prefix if from_cls else torch.cat([prefix, patches], dim=1)  # what is not pooled needs no norm
        return self.model.forward_head(self._norm(tap)(tokens), pre_logits=True)

    def _square(self, tap: int, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        return self._norm(tap)(patches).transpose(1, 2).unflatten(2, grid).contiguous()

    def _stages(self, x: Tensor, taps: list[int], feature_maps: bool) -> Features:
        indices = [self._table[tap - 1][0] for tap in taps]
        last, found = self.model.forward_intermediates(x, indices=indices)
        final = self._final(self.model.forward_head(last), x)
        maps = dict(zip(taps, found, strict=True))
        vectors = {tap: square.mean(dim=(2, 3)) for tap, square in maps.items()}
        if self.taps[-1] in vectors:
            vectors[self.taps[-1]] = final
        return Features(final, vectors, maps if feature_maps else {})


def build_backbone(cfg: BackboneConfig) -> Backbone:
    """Build the network of `cfg` with random weights from torch's global generator.

    Raises:
        UserError: an unknown name or depth, arguments that timm refuses, a size or a stem that does not fit.
    """
    model = build_network(cfg)
    if is_vit(cfg.name):
        _start_vit(model, cfg)
    if cfg.per_layer_norm and (not is_vit(cfg.name) or isinstance(model.norm, nn.Identity)):
        message = f"'{cfg.name}' with {cfg.args} has no final norm over its tokens; leave per_layer_norm out"
        raise UserError(message, code="no-final-norm")
    model.set_grad_checkpointing(cfg.gradient_checkpointing)
    return Backbone(cfg, model)


def build_network(cfg: BackboneConfig) -> Any:
    """Return the timm network of `cfg`, with its stem and its cut, as timm initializes it."""
    check_name(cfg.name)
    model = create_model(cfg.name, stock_args(cfg))
    if wants_small_stem(cfg):
        shrink_stem(model, cfg.name, cfg.stem_pool)
    return model if cfg.cut is None else truncate(model, cfg.name, cfg.cut)


def stock_args(cfg: BackboneConfig) -> dict[str, Any]:
    """Return the arguments of timm's network `cfg.name`, without a cut and with its normal stem."""
    fixed = timm_defaults(cfg.name).fixed_input_size  # timm's mark of networks that take `img_size`
    size = {"img_size": cfg.image_size} if fixed and cfg.image_size is not None else {}
    return {**cfg.args, **size, "num_classes": 0}


def wants_small_stem(cfg: BackboneConfig) -> bool:
    """Return whether the network gets a stem for small images."""
    if cfg.small_stem is not None:
        return cfg.small_stem
    return cfg.image_size is not None and cfg.image_size <= SMALL_IMAGE and small_stem_of(cfg.name) is not None


def create_model(name: str, args: dict[str, Any]) -> Any:
    """Build a timm network; UserError where timm refuses the arguments or the network has no intermediate features."""
    try:
        model = timm.create_model(name, **args)
    except UserError:
        raise
    except Exception as error:  # the constructors of a thousand networks raise any kind
        message = f"timm cannot build '{name}' with {args}: {one_line(error)}"
        raise UserError(message, code="invalid-backbone-arguments") from error
    if not callable(getattr(model, "forward_intermediates", None)):  # timm does not list which of its models have it
        message = f"'{name}' has no forward_intermediates in timm, which taps need; choose another model"
        raise UserError(message, code="backbone-without-taps")
    return model


def check_name(name: str) -> None:
    """Raise UserError unless timm has this model, and these weights if the name has a tag."""
    if not timm.is_model(name):
        message = f"timm has no model '{name}'{did_you_mean(name, timm.list_models())}; timm.list_models() lists them"
        raise UserError(message, code="unknown-backbone")
    arch, _, tag = name.partition(".")
    tagged = timm.list_pretrained(f"{arch}.*")
    if tag and name not in tagged:
        choices = f"{did_you_mean(name, tagged)}; it has {', '.join(tagged)}"
        raise UserError(f"timm has no weights '{tag}' for '{arch}'{choices}", code="unknown-weights")


def _start_vit(model: Any, cfg: BackboneConfig) -> None:
    side, patch = cfg.image_size, model.patch_embed.patch_size[0]
    if side is not None and side % patch:
        message = (
            f"image_size {side} is no multiple of the patch size {patch} of '{cfg.name}'; change one (args: patch_size)"
        )
        raise UserError(message, code="image-size-not-a-multiple-of-patch-size")
    if cfg.init == "moco":
        init_as_moco(model)
    if cfg.sincos_positions and model.pos_embed is not None:
        if model.embed_dim % 4:
            message = f"sin-cos positions need an embed_dim of 4 n, not {model.embed_dim}; set sincos_positions=False"
            raise UserError(message, code="invalid-embed-dim")
        fix_positions(model)
    if cfg.freeze_patch_embed:
        model.patch_embed.proj.requires_grad_(False)
