"""The views of a run: those of its method, with fewer pixels in its first steps if it resizes progressively."""

from typing import Any

from limbeck.core.config import EncoderConfig
from limbeck.core.resolved import Resolved
from limbeck.methods import MethodConfig
from limbeck.modalities import Modality
from limbeck.train.config import TrainConfig


def make_views(
    modality: Modality[Any, Any], method: MethodConfig, encoder: EncoderConfig, training: TrainConfig
) -> tuple[Any, ...]:
    """Return the views that the loader makes of each row; UserError for smaller views where there are none."""
    views = modality.make_views(method, encoder)
    if not training.progressive_resizing:
        return views
    return modality.with_small_views(views, training.initial_scale, encoder)


def resolve_for_views(
    modality: Modality[Any, Any], method: MethodConfig, encoder: EncoderConfig, training: TrainConfig
) -> Resolved[EncoderConfig]:
    """Return the configuration of an encoder that accepts all views of the run, and its input sizes over the run.

    Raises:
        UserError: there is none, or the encoder has no patches to leave out.
    """
    if training.patch_drop_rate:
        modality.check_patch_drop(encoder, method)
    views = make_views(modality, method, encoder, training)
    found: Resolved[EncoderConfig] = modality.resolve_for_views(encoder, views)
    return Resolved(found.value, [*found.reasons, *_describe_pixels(views, training)])


def _describe_pixels(views: tuple[Any, ...], training: TrainConfig) -> list[str]:
    """Return a sentence for each option by which a run sees fewer pixels."""
    reasons = []
    if training.progressive_resizing:
        pairs = {(view.small.size, view.augmentation.size) for view in views if view.small}
        sizes = ", ".join(f"{small} pixels instead of {full}" for small, full in sorted(pairs, reverse=True))
        reasons.append(
            f"progressive resizing: views of {sizes} in the first {training.progressive_resizing:.0%} of the steps "
            "(--progressive-resizing, --initial-scale)"
        )
    if rate := training.patch_drop_rate:
        reasons.append(f"patch dropout: the trained network sees {1 - rate:.0%} of the patches (--patch-drop-rate)")
    return reasons
