"""Teachers from Limbeck's or timm's networks: a backbone's last vector and last feature map."""

import logging
from pathlib import Path

from torch import Tensor, nn

from limbeck.core.config import to_json
from limbeck.models.backbone import Backbone, stock_args, wants_small_stem
from limbeck.models.pretrained import NetworkRef, Pretrained, load_from_file, load_pretrained, stock_form, timm_name
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import TeacherFeatures, TeacherSource

logger = logging.getLogger(__name__)


class TimmTeacher(nn.Module):
    """A backbone's last vector and last feature map."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor, feature_map: bool) -> TeacherFeatures:
        """Map [B 3 S S] to `final` [B D] and, if requested, the last feature map [B C H W]."""
        last = self.backbone.taps[-1]
        features = self.backbone(images, (last,) if feature_map else (), feature_map)
        return TeacherFeatures(features.final, features.feature_maps.get(last))


def from_pretrained(cfg: TeacherConfig) -> TeacherSource:
    """Return the network that `cfg` names, or timm's network of that name with the weights of a file."""
    found = _load(cfg)
    for note in found.notes:
        logger.info("%s", note)
    return teacher_source(found)


def teacher_source(found: Pretrained) -> TeacherSource:
    """Return a network with trained weights in the form of a teacher."""
    backbone = found.backbone
    form = backbone.cfg
    stem = {"stem_pool": form.stem_pool} if wants_small_stem(form) else {}
    identity = {"network": form.name, "args": to_json(stock_args(form)), "depth": len(backbone.taps), **stem}
    patch = backbone.model.patch_embed.patch_size[0] if backbone.is_vit else None
    network = TimmTeacher(backbone)
    return TeacherSource(network, found.stated, found.license, identity, patch, convolutional=not backbone.is_vit)


def _load(cfg: TeacherConfig) -> Pretrained:
    if cfg.weights is None:
        return load_pretrained(NetworkRef(cfg.name, cfg.pixels, cfg.depth))
    form = stock_form(timm_name(cfg.name), cfg.pixels)
    return load_from_file(Path(cfg.weights), form, cfg.depth)
