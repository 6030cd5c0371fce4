"""Measure how well few labeled images tell classes apart that the training did not see."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.sources.open import Source
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.downstream.fewshot.classes import Classes
from limbeck.downstream.fewshot.config import EpisodesConfig, RelationConfig
from limbeck.downstream.fewshot.networks import FrozenNetwork, LearningNetwork, Network, Points, pixel_points
from limbeck.downstream.fewshot.relation import ClassMemory, RelationNetwork
from limbeck.downstream.fewshot.training import accuracies, train_relation
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import load_features
from limbeck.embeddings.source import embed_source, open_images
from limbeck.metrics.few_shot import Episodes, episode_accuracies, few_shot
from limbeck.modalities.images import MODALITY
from limbeck.models.config import BackboneConfig

logger = logging.getLogger(__name__)
MODULE = "relation module"
Kind = Literal["inductive", "transductive"]


@dataclass(frozen=True, kw_only=True)
class EpisodeScores:
    """Accuracy of one classifier on the test episodes."""

    name: str
    kind: Kind
    """Whether the other queries of an episode play a part; the two kinds are not comparable."""
    accuracy: float
    half_width: float
    """Of the 95 % interval over the episodes."""


@dataclass(frozen=True, kw_only=True)
class EpisodesResult:
    """Scores on classes that the training did not see."""

    scores: tuple[EpisodeScores, ...]
    encoder: str
    way: int
    shot: int
    queries: int
    """Of each class."""
    base: tuple[str, ...]
    """Classes of the training."""
    novel: tuple[str, ...]
    """Classes of the test."""


def measure_episodes(
    source: Source | Store,
    encoder: str | PathLike[str] | None,
    cfg: EpisodesConfig,
    relation: RelationConfig,
    *,
    backbone: str | None = None,
    depth: int | None = None,
    embed: EmbedConfig | None = None,
) -> EpisodesResult:
    """Train a relation module on episodes of some classes, and measure it on episodes of the others.

    On the same episodes are measured: the nearest centroid, in the features of the network and in raw pixels, the
    module without neighbors, and that without memory, each of them trained as the module is.

    Args:
        source: labeled images, of four classes or more.
        encoder: a network, whose features are used as they are; or None.
        cfg: the episodes.
        relation: the module.
        backbone: in the place of `encoder` an architecture, which is trained together with the module.
        depth: of the encoder; None: all of it.
        embed: device and precision.

    Raises:
        UserError: not exactly one network is named, an image has no label, or there are too few classes or images.
    """
    embed = embed or EmbedConfig()
    if (encoder is None) == (backbone is None):
        raise UserError(
            "one network is needed: --with names one with features that are used as they are, --backbone an "
            "architecture that is trained from random weights",
            code="one-network",
        )
    if encoder is not None:
        frozen = load_features(encoder, embed.precision)
        depth = frozen.last if depth is None else depth
        frozen.check_depths([depth])
        store = open_images(source, frozen, embed)
        classes = Classes.split(store, cfg)
        classes.test_episodes(cfg)  # what there are too few images for is found before they are embedded
        found = embed_source(store, frozen, depths=[depth], cfg=embed).features[depth]
        network = FrozenNetwork(torch.from_numpy(np.array(found)), classes.rows(classes.base))
        return measure(store, classes, lambda: network, cfg, relation, frozen.name)
    name = str(backbone)
    MODALITY.check_encoder(BackboneConfig(name=name))
    store = source if isinstance(source, Store) else _open(source, embed)
    classes = Classes.split(store, cfg)
    return measure(store, classes, lambda: LearningNetwork(store, name, embed, cfg.seed), cfg, relation, name)


def _open(source: Source, embed: EmbedConfig) -> Store:
    return open_store(source, None, None, embed.allow_bad, embed.exclude, embed.only)


def measure(
    store: Store,
    classes: Classes,
    make_network: Callable[[], Network],
    cfg: EpisodesConfig,
    relation: RelationConfig,
    encoder: str,
) -> EpisodesResult:
    """Return the scores of everything that is measured; `make_network` returns a network that has learnt nothing."""
    training, test = classes.train_episodes(cfg), classes.test_episodes(cfg)
    queries = test.shape[2] - cfg.shot
    if queries < cfg.queries:
        logger.info(
            "%s per class instead of %d: some classes have no more", plural(queries, "query", "queries"), cfg.queries
        )
    labels = torch.from_numpy(np.array(classes.labels))
    scores = [
        _centroids("nearest centroid, raw pixels", pixel_points(store, classes.rows(classes.base)), test, cfg.shot),
        _centroids("nearest centroid", make_network().points(), test, cfg.shot),
    ]
    for name, settings in _modules(relation).items():
        network = make_network()
        torch.manual_seed(cfg.seed)
        module = RelationNetwork(network.dim, settings)
        memory = ClassMemory(len(store.label_names), network.dim)
        if network.module:
            device = next(network.module.parameters()).device
            module, memory = module.to(device), memory.to(device)
        train_relation(module, memory, network, training, labels, cfg, name)
        points = network.points()
        if network.module:
            scores.append(_centroids(f"nearest centroid, network of: {name}", points, test, cfg.shot))
        found = accuracies(module.cpu(), memory.cpu().read(), points, test, cfg.shot, f"{name}, test")
        transductive = settings.context == "all" and settings.neighbors > 0
        scores.append(_scores(name, "transductive" if transductive else "inductive", found))
    names = store.label_names
    return EpisodesResult(
        scores=tuple(scores),
        encoder=encoder,
        way=test.shape[1],
        shot=cfg.shot,
        queries=queries,
        base=tuple(names[label] for label in classes.base),
        novel=tuple(names[label] for label in classes.novel),
    )


def _modules(relation: RelationConfig) -> dict[str, RelationConfig]:
    """Return the module and what is left of it without its parts, by name; of equal ones the first."""
    named = {
        MODULE: relation,
        "relation module, no memory": replace(relation, memory=False),
        "relation module, no neighbors": replace(relation, neighbors=0, memory=False),
    }
    return {name: found for name, found in named.items() if name == MODULE or found != relation}


def _centroids(name: str, points: Points, test: Episodes, shot: int) -> EpisodeScores:
    return _scores(name, "inductive", episode_accuracies(points, torch.from_numpy(test), shot))


def _scores(name: str, kind: Kind, found: Float[Tensor, " E"]) -> EpisodeScores:
    mean = few_shot(found)
    return EpisodeScores(name=name, kind=kind, accuracy=mean.accuracy, half_width=mean.half_width)
