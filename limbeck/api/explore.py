"""A page to explore images by their embeddings, from one call."""

from dataclasses import fields
from os import PathLike
from typing import Any

from limbeck.api.options import with_options
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.downstream.explorer.build import Explorer, write_explorer
from limbeck.downstream.explorer.config import ExploreConfig
from limbeck.embeddings.config import EmbedConfig


def explore(
    images: Source | Store,
    encoder: str | PathLike[str],
    out: str | PathLike[str] = "explore.html",
    **options: Any,
) -> Explorer | None:
    """Write one HTML file with a map of all images: `limbeck.explore("photos", "runs/a", seed=1)`.

    With several processes (`devices`) the first one makes the page, and the others return None.

    Args:
        images: a folder, files, arrays [N H W 3] of uint8, a store, ...
        encoder: as in `limbeck.embed`.
        out: path of the page; one of Limbeck's is replaced.
        **options: fields of `limbeck.downstream.explorer.config.ExploreConfig` (`layout`, `clusters`, `sample`, `seed`)
            and those of `limbeck.embeddings.config.EmbedConfig`.

    Raises:
        UserError: as `limbeck.embed`; there are fewer than two images or more than a page can hold; or `out` is no page
            of Limbeck's.
    """
    names = {field.name for field in fields(EmbedConfig)}
    embed = {name: value for name, value in options.items() if name in names}
    page = {name: value for name, value in options.items() if name not in names}
    return write_explorer(
        images,
        encoder,
        out,
        cfg=with_options(ExploreConfig(), page, known=names),
        embed=with_options(EmbedConfig(), embed),
    )
