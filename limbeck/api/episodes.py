"""Few-shot evaluation: accuracy on new classes from few labeled images."""

from os import PathLike
from typing import Any

from limbeck.api.options import with_options
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.downstream.fewshot.config import EpisodesConfig, RelationConfig
from limbeck.downstream.fewshot.source import EpisodesResult, measure_episodes
from limbeck.embeddings.config import EmbedConfig


def episodes(
    images: Source | Store,
    encoder: str | PathLike[str] | None = None,
    *,
    backbone: str | None = None,
    depth: int | None = None,
    relation: RelationConfig | None = None,
    embedding: EmbedConfig | None = None,
    **options: Any,
) -> EpisodesResult:
    """Train a relation module on episodes of half of the classes, and measure it on the others.

    Args:
        images: labeled images of four classes or more: a folder with a sub-folder per class, a store, ...
        encoder: as in `limbeck.embed`; its features are used as they are.
        backbone: in its place an architecture of timm's, which is trained with the module.
        depth: number of blocks or stages of the encoder; by default all.
        relation: the module.
        embedding: how to compute the features.
        **options: fields of `limbeck.downstream.fewshot.config.EpisodesConfig`: `way`, `shot`, `queries`, `steps`,
            `episodes`, `novel`, `lr`, `seed`.

    Raises:
        UserError: not exactly one network is named, an image has no label, or there are too few classes or images.
    """
    cfg = with_options(EpisodesConfig(), options, known=("backbone", "depth", "relation", "embedding"))
    settings = relation or RelationConfig()
    return measure_episodes(images, encoder, cfg, settings, backbone=backbone, depth=depth, embed=embedding)
