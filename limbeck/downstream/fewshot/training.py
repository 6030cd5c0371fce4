"""Train a relation module on episodes, alone or together with the network of its features, and measure it."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.downstream.fewshot.config import EpisodesConfig
from limbeck.downstream.fewshot.networks import Network
from limbeck.downstream.fewshot.relation import ClassMemory, RelationNetwork
from limbeck.metrics.few_shot import Episodes


class Split(NamedTuple):
    """An episode as the module needs it."""

    support: Float[Tensor, "S D"]
    query: Float[Tensor, "Q D"]
    support_labels: Int[Tensor, " S"]
    query_labels: Int[Tensor, " Q"]


def split(features: Float[Tensor, "way images D"], shot: int) -> Split:
    """Divide the features of an episode: the first `shot` images of every class have labels."""
    way, images, dim = features.shape
    classes = torch.arange(way, device=features.device)
    return Split(
        features[:, :shot].reshape(-1, dim),
        features[:, shot:].reshape(-1, dim),
        classes.repeat_interleave(shot),
        classes.repeat_interleave(images - shot),
    )


def train_relation(
    module: RelationNetwork,
    memory: ClassMemory,
    network: Network,
    episodes: Episodes,
    labels: Int[Tensor, " N"],
    cfg: EpisodesConfig,
    description: str,
) -> None:
    """Take one step of Adam per episode; after it, if the module has a memory, write the features of the episode there.

    Args:
        module: trained in place, and the network with it if that learns.
        memory: written in place; its slots are the classes of `labels`.
        network: gives the features of rows.
        episodes: [steps way images] rows.
        labels: class of every row.
        cfg: the settings.
        description: of the progress.
    """
    parameters = [*module.parameters(), *(network.module.parameters() if network.module else ())]
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=cfg.lr)
    for step, rows in enumerate(progress(list(torch.from_numpy(episodes)), description, unit="episodes")):
        found = network.features(rows.flatten(), step).unflatten(0, rows.shape)
        episode = split(found, cfg.shot)
        scores = module(episode.support, episode.query, episode.support_labels, memory.read())
        optimizer.zero_grad()
        module.loss(scores, episode.query_labels).backward()
        optimizer.step()
        if module.cfg.memory:
            memory.write(found.detach(), labels[rows[:, 0]])


@torch.inference_mode()
def accuracies(
    module: RelationNetwork,
    memory: Float[Tensor, "M D"],
    features: Float[Tensor, "N D"],
    episodes: Episodes,
    shot: int,
    description: str,
) -> Float[Tensor, " E"]:
    """Return the share of the queries of each episode that get the largest score for their class."""

    def each() -> Iterator[float]:
        for rows in progress(list(torch.from_numpy(episodes)), description, unit="episodes"):
            episode = split(features[rows], shot)
            scores = module(episode.support, episode.query, episode.support_labels, memory)
            yield float((scores.argmax(dim=1) == episode.query_labels).double().mean())

    return torch.tensor(list(each()), dtype=torch.float64)
