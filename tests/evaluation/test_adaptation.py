"""The verdict on an adaptation: which evidence counts, and what it is computed from."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.core.devices import resolve_bf16
from limbeck.data.store.store import Store
from limbeck.evaluation.adaptation import Adaptation, Figure, compare_with_start, decide
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.metrics.knn import knn_correct
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.encoder_io import Preprocessing
from tests.helpers.distill import COUNT, STUDENT, images

HALF = (0.5, 0.5, 0.5)
HOW = Preprocessing(image_size=16, store_size=16, mean=HALF, std=HALF)
ROWS = np.arange(COUNT)
CPU = torch.device("cpu")


def network(seed: int) -> Backbone:
    torch.manual_seed(seed)
    return build_backbone(STUDENT)


def store(labeled: bool = True, classes: int = 3) -> Store:
    return Store.from_arrays(images()[0], ROWS % classes if labeled else None)


def figure(difference: float, stderr: float | None = 0.01) -> Figure:
    return Figure(start=0.5, adapted=0.5 + difference, stderr=stderr)


@pytest.mark.parametrize(
    ("knn", "views", "rank", "verdict"),
    [
        (figure(0.03), figure(-0.3), 5.0, "better"),
        (figure(-0.03), figure(0.3), 20.0, "worse"),
        (figure(0.015), figure(0.3), 20.0, "not better"),
        (figure(-0.015), figure(0.3), 20.0, "not better"),
        (None, figure(0.03), 20.0, "better"),
        (None, figure(0.03), 8.9, "worse"),
        (None, figure(0.015), 10.0, "not better"),
        (None, figure(-0.03), 10.0, "worse"),
        (None, None, 20.0, "not better"),
    ],
)
def test_labels_decide_and_without_them_views_and_rank(
    knn: Figure | None, views: Figure | None, rank: float, verdict: str
) -> None:
    found = Adaptation(
        verdict="not better",
        weights="start",
        images=100,
        knn=knn,
        view_retrieval=views,
        effective_rank=Figure(start=10.0, adapted=rank),
    )
    assert decide(found) == verdict


def test_the_accuracies_and_the_error_of_their_difference() -> None:
    data, networks, held_out, bank = store(), (network(0), network(1)), ROWS[:30], ROWS[30:]
    found = compare_with_start(*networks, data, held_out, bank, HOW, CPU)
    right = []
    for model in networks:
        plain = eval_images(data, 16, HALF, HALF, CPU)
        bf16 = resolve_bf16("auto", CPU)
        test, train = (extract(model, plain, rows, device=CPU, bf16=bf16)[model.taps[-1]] for rows in (held_out, bank))
        labels = torch.from_numpy(data.labels)
        k = int(labels[bank].bincount().min())
        right.append(knn_correct(train, labels[bank], test, labels[held_out], k).double().numpy())
    differences = np.subtract(right[1], right[0])
    assert found.knn is not None
    assert (found.knn.start, found.knn.adapted) == pytest.approx((np.mean(right[0]), np.mean(right[1])))
    assert found.knn.stderr == pytest.approx(differences.std(ddof=1) / math.sqrt(30))
    assert (found.images, found.bank) == (30, 70)


def test_a_network_is_not_better_than_itself() -> None:
    found = compare_with_start(network(0), network(0), store(labeled=False), ROWS[:30], ROWS[30:], HOW, CPU)
    assert (found.verdict, found.weights, found.knn, found.neighbor_agreement) == ("not better", "start", None, 1.0)
    assert found.view_retrieval is not None
    assert (found.view_retrieval.difference, found.view_retrieval.stderr) == (0, 0)
    assert "encoder/ holds the weights of the start" in found.sentence()


@pytest.mark.parametrize("data", [store(labeled=False), store(classes=1)])
def test_labels_of_one_class_are_no_labels(data: Store) -> None:
    assert compare_with_start(network(0), network(1), data, ROWS[:30], ROWS[30:], HOW, CPU).knn is None


def test_few_images_show_nothing_and_leave_the_start() -> None:
    found = compare_with_start(network(0), network(1), store(), ROWS[:19], ROWS[19:], HOW, CPU)
    assert (found.verdict, found.weights, found.view_retrieval) == ("not better", "start", None)
    assert "19 held-out images" in found.sentence()


def test_the_file_holds_all(tmp_path: Path) -> None:
    found = replace(
        compare_with_start(network(0), network(1), store(), ROWS[:30], ROWS[30:], HOW, CPU), weights="adapted"
    )
    found.save(tmp_path / "adaptation.json")
    assert Adaptation.load(tmp_path / "adaptation.json") == found
