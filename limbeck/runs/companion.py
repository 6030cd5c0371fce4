"""The companion of a run's images: a store of depth, for methods that compare with it."""

from typing import Any

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.types import Dataset
from limbeck.data.sources.selection import Selection
from limbeck.data.store.companion import with_companion
from limbeck.data.store.store import Store
from limbeck.methods import MethodConfig
from limbeck.modalities import Modality
from limbeck.runs.config import RunConfig
from limbeck.runs.request import RunRequest


def open_data(
    request: RunRequest, method: MethodConfig, modality: Modality[Any, Any], selection: Selection
) -> Resolved[Any]:
    """Return the data of a run, with the companion that its method needs.

    Raises:
        UserError: as `Modality.open` and `with_companion`; or there is no companion where it is needed, and only then.
    """
    if method.needs_companion and request.companion is None:
        raise UserError(
            f"method '{method.name}' compares images with their depth: give --companion STORE, which `limbeck store "
            "DEPTH STORE --depth distance` builds (or inverse)",
            code="no-companion",
        )
    if request.companion is not None and not method.needs_companion:
        raise UserError(
            f"method '{method.name}' does not use the companion '{request.companion}': leave it out, or choose dkp",
            code="flag-without-use",
        )
    found = modality.open(
        request.source,
        store_size=request.store_size,
        allow_bad=request.allow_bad,
        selection=selection,
        encoder=request.backbone,
    )
    return (
        found if request.companion is None else Resolved(with_companion(found.value, request.companion), found.reasons)
    )


def companion_of(data: Dataset) -> dict[str, Any]:
    """Return the entry of config.json for the companion of the data, if there is one."""
    found = data.companion if isinstance(data, Store) else None
    if found is None:
        return {}
    return {"companion": str(found.path.absolute()) if found.path else "", "companion_digest": found.digest}


def reopen_companion(data: Any, cfg: RunConfig) -> Any:
    """Return the data of a run with its companion again; UserError where that has changed."""
    if not cfg.companion:
        return data
    assert isinstance(data, Store), "images have companions"
    found = with_companion(data, cfg.companion)
    if found.companion is None or found.companion.digest != cfg.companion_digest:
        raise UserError(
            f"the companion '{cfg.companion}' has changed since the run began: build it again from the same images",
            code="store-changed",
        )
    return found
