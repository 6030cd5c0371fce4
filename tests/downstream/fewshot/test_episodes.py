"""`limbeck episodes`: classes of the test that the training does not see, two kinds of numbers, and mistakes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import limbeck as library
from limbeck.data.store.store import Store
from limbeck.downstream.fewshot.classes import Classes
from limbeck.downstream.fewshot.config import EpisodesConfig, RelationConfig
from limbeck.downstream.fewshot.networks import FrozenNetwork
from limbeck.downstream.fewshot.relation import ClassMemory, RelationNetwork
from limbeck.downstream.fewshot.training import accuracies, train_relation
from limbeck.metrics.few_shot import episode_accuracies
from tests.helpers.commands import Run
from tests.helpers.errors import raises

CFG = EpisodesConfig(way=3, shot=1, queries=4, steps=300, episodes=100, lr=3e-3)
CLASSES, IMAGES = 40, 8


def labeled(classes: int = CLASSES) -> Store:
    """Return a labeled store of blank images."""
    pixels = np.zeros((classes * IMAGES, 4, 4, 3), np.uint8)
    return Store.from_arrays(pixels, np.repeat(np.arange(classes), IMAGES))


def clustered(labels: np.ndarray) -> torch.Tensor:
    """Return features with four coordinates in which images of a class agree, and twelve of larger noise."""
    generator = torch.Generator().manual_seed(0)
    centers = 2 * torch.randn(int(labels.max()) + 1, 4, generator=generator)
    near = centers[torch.from_numpy(labels)] + 0.2 * torch.randn(len(labels), 4, generator=generator)
    return torch.cat([near, 3 * torch.randn(len(labels), 12, generator=generator)], dim=1)


def learnt(
    classes: Classes, features: torch.Tensor, cfg: EpisodesConfig = CFG
) -> tuple[RelationNetwork, ClassMemory, FrozenNetwork]:
    network = FrozenNetwork(features, classes.rows(classes.base))
    torch.manual_seed(0)
    module, memory = RelationNetwork(network.dim, RelationConfig()), ClassMemory(CLASSES, network.dim)
    train_relation(module, memory, network, classes.train_episodes(cfg), torch.from_numpy(classes.labels), cfg, "")
    return module, memory, network


@pytest.fixture(scope="module")
def classes() -> Classes:
    return Classes.split(labeled(), CFG)


def test_the_two_parts_have_no_class_in_common(classes: Classes) -> None:
    assert sorted([*classes.base, *classes.novel]) == list(range(CLASSES))
    assert len(classes.novel) == CLASSES // 2
    for part, episodes in ((classes.base, classes.train_episodes(CFG)), (classes.novel, classes.test_episodes(CFG))):
        assert episodes.shape[1:] == (3, 5)
        found = classes.labels[episodes]
        assert np.isin(found, part).all()
        assert (found == found[:, :, :1]).all()
    other = Classes.split(labeled(), EpisodesConfig(seed=1))
    assert other.novel.tolist() != classes.novel.tolist()


def test_it_learns_what_tells_classes_apart_from_other_classes(classes: Classes) -> None:
    module, memory, network = learnt(classes, clustered(classes.labels))
    test = classes.test_episodes(CFG)
    found = accuracies(module, memory.read(), network.points(), test, CFG.shot, "")
    nearest = episode_accuracies(network.points(), torch.from_numpy(test), CFG.shot)
    assert found.mean() > nearest.mean() + 0.1
    assert memory.written.sum() == len(classes.base)


def test_images_of_the_test_change_nothing_that_is_learnt(classes: Classes) -> None:
    features = clustered(classes.labels)
    changed = features.clone()
    changed[torch.from_numpy(classes.rows(classes.novel))] = torch.randn(CLASSES // 2 * IMAGES, 16)
    short = replace(CFG, steps=30)
    (module, memory, _), (other, slots, _) = (learnt(classes, found, short) for found in (features, changed))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    assert torch.equal(memory.read(), slots.read())


@pytest.mark.parametrize("context", ["support", "all"])
def test_numbers_of_two_kinds_are_in_two_tables(limbeck: Run, trained: Path, photos: Path, context: str) -> None:
    command = ["episodes", photos / "train", "--with", trained, "--steps", 5, "--episodes", 10, "--queries", 3]
    status, printed, _ = limbeck(*map(str, command), "--relation.context", context, "--json")
    assert status == 0
    found = json.loads(printed)
    kinds = {scores["name"]: scores["kind"] for scores in found["scores"]}
    own = "inductive" if context == "support" else "transductive"
    assert kinds == {
        "nearest centroid, raw pixels": "inductive",
        "nearest centroid": "inductive",
        "relation module": own,
        "relation module, no memory": own,
        "relation module, no neighbors": "inductive",
    }
    assert set(found["base"]).isdisjoint(found["novel"])
    assert (found["way"], found["queries"]) == (5, 3)


def test_a_network_learns_with_the_module(limbeck: Run, photos: Path) -> None:
    command = ["episodes", photos / "train", "--backbone", "test_resnet", "--steps", 2, "--episodes", 4, "--queries", 2]
    status, printed, _ = limbeck(*map(str, command), "--way", "2")
    assert status == 0
    assert "inductive" in printed
    assert "transductive" not in printed
    assert printed.count("network of") == 3


def test_a_default_that_shrinks_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    assert Classes.split(labeled(10), EpisodesConfig()).way == 5
    assert not caplog.messages
    assert Classes.split(labeled(7), EpisodesConfig()).way == 3
    assert "3-way instead of 5-way" in caplog.text


def test_mistakes(trained: Path, photos: Path) -> None:
    folder = photos / "train"
    with raises("one-network"):
        library.episodes(folder)
    with raises("one-network"):
        library.episodes(folder, trained, backbone="resnet18")
    with raises("unknown-backbone", "resnet19"):
        library.episodes(folder, backbone="resnet19")
    with raises("too-few-images", "16"):
        library.episodes(folder, trained, shot=16)
    with raises("labels-needed"):
        Classes.split(Store.from_arrays(np.zeros((8, 4, 4, 3), np.uint8)), CFG)
    with raises("too-few-classes", "3"):
        Classes.split(labeled(classes=3), CFG)
    with raises("too-few-classes", "--novel 0.01", "0.05", "0.95"):
        Classes.split(labeled(), EpisodesConfig(novel=0.01))
    with raises("way-out-of-range", 6, 5):
        library.episodes(folder, trained, way=6)
    with raises("out-of-range", "novel"):
        EpisodesConfig(novel=1.0)
    with raises("out-of-range", "temperature"):
        RelationConfig(temperature=0)
