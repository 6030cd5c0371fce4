"""An index of images, and the images in it that are nearest to others."""

from os import PathLike
from typing import Any

from limbeck.api.options import with_options
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.downstream.image_index.index import About, SearchKind
from limbeck.downstream.image_index.source import Found, index_images, search_images
from limbeck.embeddings.config import EmbedConfig


def index(
    images: Source | Store,
    folder: str | PathLike[str],
    encoder: str | PathLike[str] | None = None,
    *,
    depth: int | None = None,
    search: SearchKind = "auto",
    **options: Any,
) -> About:
    """Make an index of images for `limbeck.search`, or add them to one.

    Args:
        images: a folder, files, a store, ...; those that are in the index already stay as they are.
        folder: of the index, new or one.
        encoder: a run, an encoder, an export, "timm:NAME"; needed for a new index, and refused for one of another.
        depth: number of blocks or stages; by default all, or that of the index.
        search: "exact", "ivf" (FAISS), or "auto": ivf above 500,000 images.
        **options: fields of `limbeck.embeddings.config.EmbedConfig`.

    Raises:
        UserError: as `limbeck.embed`; the index was made by another encoder or depth, or `folder` is not ours.
    """
    cfg = with_options(EmbedConfig(), options, known=("depth", "search"))
    return index_images(images, folder, encoder, depth=depth, search=search, embed=cfg)


def search(
    folder: str | PathLike[str],
    queries: Source | Store,
    k: int = 10,
    *,
    encoder: str | PathLike[str] | None = None,
    **options: Any,
) -> list[Found]:
    """Return the `k` images of an index that are nearest to each image of `queries`, best first.

    Args:
        folder: of the index.
        queries: an image file, a folder, a list of files, a store, ...
        k: images per query.
        encoder: the network that made the index, if it has moved since; or an export aligned with it.
        **options: fields of `limbeck.embeddings.config.EmbedConfig`.

    Raises:
        UserError: there is no index, another encoder is given, or a query cannot be read.
    """
    cfg = with_options(EmbedConfig(), options, known=("k", "encoder"))
    return search_images(folder, queries, k, encoder=encoder, embed=cfg)
