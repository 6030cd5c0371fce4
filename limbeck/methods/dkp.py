"""Distill-DKP: keypoints of images, taught by a frozen detector of keypoints in their depth.

Anand et al., *Distill-DKP*, arXiv 2410.14700, of which the abstract and the project page could be read: the cosine
between embeddings, that late layers are best, and that the frozen teacher is the same model trained on depth. Which
layer, its weight, the start and the scale of depth are our reconstruction (docs/methods/dkp.md).
"""

import torch

from limbeck.core.errors import UserError
from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.keypoints.encoder_io import detector_digest, load_detector
from limbeck.keypoints.network import Detector
from limbeck.losses.alignment import map_cosine_distance
from limbeck.methods.autolink import AutoLink
from limbeck.methods.config.dkp import DKPConfig
from limbeck.models.weights import check_digest


class DKP(AutoLink):
    """AutoLink on the first view, and a teacher on the second, which is the depth of the first."""

    cfg: DKPConfig

    def __init__(self, backbone: Detector, cfg: DKPConfig) -> None:
        super().__init__(backbone, cfg)
        teacher = load_detector(cfg.teacher or "").requires_grad_(False)
        check_digest(cfg.teacher or "", cfg.teacher_digest, detector_digest(teacher))
        _check_fits(cfg, backbone, teacher)
        if cfg.start == "teacher":
            backbone.load_state_dict(teacher.state_dict())
        self._teacher: tuple[Detector, ...] = (teacher,)  # no submodule, so that no checkpoint holds it

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Add the mean distance of the maps of image and depth to AutoLink's loss."""
        image, depth = batch.views
        teacher, at = self._teacher[0].to(depth.device, depth.dtype), self.cfg.depth
        found = self.backbone(image, (at,), feature_maps=True)
        loss = self.repaint(image, batch.masks[0], found)
        with torch.no_grad():
            target = teacher(depth, (at,), feature_maps=True).feature_maps[at]
        distance = map_cosine_distance(found.feature_maps[at], target, self.cfg.cosine_over)
        total = torch.add(loss.total, distance, alpha=self.cfg.weight)
        terms = {**loss.terms, "repaint": loss.total.detach(), "depth": distance.detach()}
        return LossOutput(total, terms, {})


def _check_fits(cfg: DKPConfig, student: Detector, teacher: Detector) -> None:
    """Raise UserError for a teacher with which the maps, or the weights to start from, cannot agree."""
    own, other = student.cfg, teacher.cfg
    fits = own == other if cfg.start == "teacher" else (own.image_size, own.width) == (other.image_size, other.width)
    if not fits:
        raise UserError(
            f"the teacher '{cfg.teacher}' finds {other.keypoints} keypoints in images of {other.image_size} pixels "
            f"with {other.width} channels, and the student {own.keypoints} in {own.image_size} with {own.width}: give "
            f"--backbone.keypoints {other.keypoints} --backbone.image-size {other.image_size} --backbone.width "
            f"{other.width}",
            code="teacher-does-not-fit",
        )
