"""The teacher of an adaptation: the frozen copy of the weights that the run starts from."""

from dataclasses import replace

from limbeck.core.errors import UserError
from limbeck.models.backbone import build_backbone
from limbeck.models.pretrained import Pretrained, StatedPreprocessing
from limbeck.models.start import LoadedStart
from limbeck.teachers.config import START_TEACHER
from limbeck.teachers.from_pretrained import teacher_source
from limbeck.teachers.frozen import TeacherSource


def from_start(start: LoadedStart | None) -> TeacherSource:
    """Return a copy of the start, with the preprocessing of the network that is trained; without a start, UserError."""
    if start is None:
        raise UserError(
            f"the teacher '{START_TEACHER}' is the frozen copy of the weights that a run starts from: name them with "
            "--from",
            code="no-start",
        )
    backbone = build_backbone(replace(start.backbone, patch_filters=0))
    backbone.load_state_dict(start.weights)
    mean, std = start.backbone.normalization
    stated = StatedPreprocessing(start.backbone.image_size, mean, std, "bilinear")
    return teacher_source(Pretrained(backbone, stated, start.cfg.license))
