"""Provenance of an encoder, without the paths of the machine that trained it."""

import contextlib
from pathlib import Path

from limbeck.core.config import Json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.portable_paths import without_absolute_paths
from limbeck.core.run_folder import CONFIG, ENCODER
from limbeck.data.store.layout import read_manifest
from limbeck.models.encoder_io import read_encoder_config


def store_of(run: Path) -> Path | None:
    """Return the store of the run at `run`, if its config names one; an encoder alone names none."""
    with contextlib.suppress(UserError, OSError):
        config = read_json(run / CONFIG) if (run / ENCODER).is_dir() else None
        store = config.get("store") if isinstance(config, dict) else None
        return Path(store) if isinstance(store, str) and store else None
    return None


def label_names(run: Path) -> tuple[str, ...]:
    """Return the label names of the store of a run, if both are there."""
    with contextlib.suppress(UserError, OSError):
        store = store_of(run)
        return read_manifest(store).label_names if store else ()
    return ()


def provenance(encoder: Path) -> dict[str, Json]:
    """Return the provenance of an encoder, without paths of this machine."""
    found = without_absolute_paths(read_encoder_config(encoder)["provenance"])
    assert isinstance(found, dict)
    return found
