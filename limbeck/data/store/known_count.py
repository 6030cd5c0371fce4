"""How many images a source has, as far as that is known without reading them."""

from functools import lru_cache
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.core.logs import only_errors
from limbeck.data.sources.open import Source, open_source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.layout import is_store
from limbeck.data.store.store import Store


def known_count(source: Source, selection: Selection) -> int | None:
    """Return the number of images that a selection leaves of a source; None where only reading it would tell.

    A source that cannot be opened has none, and no message yet: it is opened again, and refused then. What is at a path
    is counted once.
    """
    return _of_path(str(source), selection) if isinstance(source, str | Path) else _of(source, selection)


@lru_cache(maxsize=8)
def _of_path(source: str, selection: Selection) -> int | None:
    return _of(source, selection)


def _of(source: Source, selection: Selection) -> int | None:
    try:
        with only_errors():
            if isinstance(source, str) and is_store(Path(source).expanduser()):
                return len(Store.open(Path(source).expanduser()))
            return open_source(source, selection).count
    except UserError:
        return None
