"""Options of hosts that compare local crops of an image with its global views."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.augment.views import local_crop
from limbeck.methods.config.base.host import HostConfig

if TYPE_CHECKING:
    from limbeck.data.sampling import ViewSpec


@dataclass(frozen=True, kw_only=True)
class LocalCropsConfig(HostConfig):
    """A host that compares any number of local crops with the global views of their image."""

    view_count: ClassVar[tuple[int, int]] = (2, 10)
    num_local_crops: int | None = None
    """Local crops of an image besides its global views; None: those of the preset, if it has some."""
    local_crop_size: int | None = None
    """Side of a local crop in pixels; None: that of the preset, 96/224 of a global view."""

    def make_views(self, size: int) -> "tuple[ViewSpec, ...]":
        """Return the global views of the preset, then the local crops.

        Raises:
            UserError: there cannot be so many, or of that size.
        """
        views = super().make_views(size)
        whole, local = views[: self.num_global_views], views[self.num_global_views :]
        if self.num_local_crops is not None:
            local = repeat_local_crop(local[0] if local else as_local_crop(whole[0]), self.num_local_crops)
        if (side := self.local_crop_size) is not None:
            self._check_size(side, size, len(local))
            local = tuple(replace(view, augmentation=replace(view.augmentation, size=side)) for view in local)
        return *whole, *local

    def _check_size(self, side: int, size: int, count: int) -> None:
        if not count:
            message = f"local_crop_size is {side} and there are no local crops"
            raise UserError(f"{message}: set num_local_crops, such as 6, or leave it out", code="no-effect")
        if not 8 <= side < size:
            message = f"local_crop_size is {side}: local crops are smaller than the views of {plural(size, 'pixel')}"
            raise UserError(f"{message}, and of at least 8, or leave it out", code="out-of-range")


def as_local_crop(view: "ViewSpec") -> "ViewSpec":
    """Return SwAV's local crop with the colors of a global view."""
    return replace(view, augmentation=local_crop(view.augmentation))


def repeat_local_crop(crop: "ViewSpec", count: int) -> "tuple[ViewSpec, ...]":
    """Return `count` views like `crop`; UserError for fewer than none."""
    if count < 0:
        raise UserError(f"num_local_crops is {count}: take 0 for none, or more, such as 6", code="out-of-range")
    return (crop,) * count
