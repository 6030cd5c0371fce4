"""Count the images of a source, as far as that is known without reading them."""

from contextlib import suppress
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

    It is None, too, of a source that cannot be opened, which is refused when it is opened to be read. What is at a path
    is counted once.
    """
    return _of_path(str(source), selection) if isinstance(source, str | Path) else _of(source, selection)


@lru_cache(maxsize=8)
def _of_path(source: str, selection: Selection) -> int | None:
    return _of(source, selection)


def _of(source: Source, selection: Selection) -> int | None:
    with only_errors(), suppress(UserError):
        if isinstance(source, str) and is_store(Path(source).expanduser()):
            rows = len(Store.open(Path(source).expanduser()))
            return min(rows, selection.max_images or rows)
        return open_source(source, selection).count
    return None
