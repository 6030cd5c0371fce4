"""Refuse requests that are wrong whatever their images are."""

from typing import Any

from limbeck.data.sources.selection import Selection
from limbeck.methods import MethodConfig
from limbeck.modalities import Modality
from limbeck.runs.defaults import small_encoder
from limbeck.runs.request import RunRequest
from limbeck.train.loggers import resolve_loggers


def check_early(
    request: RunRequest, method: MethodConfig, modality: Modality[Any, Any], selection: Selection, why: str
) -> None:
    """Raise UserError for what is wrong whatever the images are, before hours of decoding."""
    resolve_loggers(request.training.loggers)
    named = request.backbone or (modality.default_student() if request.teacher else modality.default_encoder())
    small = small_encoder(request.teacher, request.method, modality).value if why and not request.backbone else named
    if depths := modality.check_encoder(small):
        method.check_depths(depths)
    if request.training.patch_drop_rate:
        modality.check_patch_drop(small, method)
    if method.needs_labels:
        classes = modality.known_classes(request.source, selection)
        if classes is not None:
            method.check_classes(classes)
