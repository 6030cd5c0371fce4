"""A second picture of every image of a store: a store of depth with the same rows."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.store.layout import is_store
from limbeck.data.store.store import Store, read_paths


def with_companion(store: Store, path: str | Path) -> Store:
    """Return the store with the companion in the folder `path`.

    Raises:
        UserError: it is no store of depth, or has other images, another size or other shapes.
    """
    build = f"`limbeck store DEPTH {path} --store-size {store.size} --depth distance` (or inverse)"
    if not is_store(Path(path)):
        raise UserError(f"the companion '{path}' is not a store: build it with {build}", code="not-a-store")
    companion = Store.open(path)
    if companion.depth is None:
        raise UserError(
            f"'{path}' was stored as pictures, and whether values grow with distance or nearness is not known: "
            f"build it with {build}",
            code="unknown-depth",
        )
    if companion.size != store.size:
        raise UserError(
            f"the companion '{path}' has images of {companion.size} pixels and the store of {store.size}: "
            f"build it with {build}",
            code="other-store-size",
        )
    _check_rows(store, companion, path)
    return replace(store, companion=companion)


def _check_rows(store: Store, companion: Store, path: str | Path) -> None:
    own, other = ([str(PurePosixPath(name).with_suffix("")) for name in read_paths(s)] for s in (store, companion))
    if own != other:
        lone = next(iter([*(name for name in own if name not in {*other}), *(n for n in other if n not in {*own})]), "")
        which = f"'{lone}' is in one of them alone" if lone else "their order differs"
        raise UserError(
            f"the companion '{path}' has {plural(len(other), 'row')} and the store {len(own):,}, and {which}: build "
            "both from files of the same names (--exclude leaves some out)",
            code="other-rows",
        )
    first, second = (s.widths.astype(np.int64) * o.heights for s, o in ((store, companion), (companion, store)))
    if (row := int(np.argmax(first != second))) or first[0] != second[0]:
        sizes = [f"{s.widths[row]} x {s.heights[row]}" for s in (store, companion)]
        raise UserError(
            f"'{own[row]}' has {sizes[0]} pixels and its companion in '{path}' {sizes[1]}, which is another shape: "
            "crops would not agree; make depth in the shape of its image",
            code="other-shape",
        )
