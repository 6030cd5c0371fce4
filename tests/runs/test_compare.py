"""Comparing networks without labels: one block for all, an order by a paired difference, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data.store.store import Store
from limbeck.embeddings.encoders import load_encoder
from limbeck.evaluation.label_free import MEASURES, VIEWS, Block, measure, shared_neighbors
from limbeck.metrics.fidelity import nearest_images, neighbor_agreement
from limbeck.metrics.views import view_retrieval
from limbeck.runs.compare import (
    FOR_STUDENTS,
    LABELS_AGREED,
    NAMES,
    USUAL_ORDER,
    Compared,
    compare_without_labels,
    verdict,
)
from limbeck.teachers.config import PATCH_FILTERS
from tests.helpers.commands import Run
from tests.helpers.errors import raises

COUNT = 40
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def block(trained: Path) -> Block:
    return Block.of(Store.open(trained.parent / "store"), COUNT, CPU)


def test_the_measures_are_those_of_the_same_views(trained: Path, block: Block) -> None:
    encoder = load_encoder(trained)
    found = measure(encoder, block)
    assert (*found,) == MEASURES
    assert {key for key, value in found.items() if value.dim()} == {"view_retrieval", "filter_agreement"}
    assert found[USUAL_ORDER].shape == (COUNT,)
    assert all(
        torch.equal(value, again) for value, again in zip(found.values(), measure(encoder, block).values(), strict=True)
    )
    images = encoder.images(block.store, CPU)(block.rows)
    plain = encoder.features(images, (encoder.last,)).final
    expected = neighbor_agreement(nearest_images(plain), block.filter_neighbors)
    assert found["filter_agreement"].mean().item() == pytest.approx(expected)
    chance = view_retrieval(torch.randn(COUNT, VIEWS, 4)).mean()
    assert found["view_retrieval"].mean() > chance


def test_shared_neighbors_is_the_agreement_of_every_image() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.stack([torch.randperm(9, generator=generator)[:4] for _ in range(6)]) for _ in range(2))
    expected = [len({*x.tolist()} & {*y.tolist()}) / 4 for x, y in zip(a, b, strict=True)]
    assert shared_neighbors(a, b).tolist() == expected


def test_a_network_is_level_with_itself_and_the_order_is_that_of_the_measure(trained: Path, limbeck: Run) -> None:
    encoder = trained / "encoder"
    code, out, err = limbeck("compare", trained, encoder, "--count", COUNT, "--json")
    assert code == 0
    assert "trained on" in err
    found = json.loads(out)
    assert found["images"] == COUNT
    first, second = found["networks"]
    assert first["values"] == second["values"]
    assert (first["ahead"], second["ahead"]) == (0.0, None)
    assert "cannot be told apart" in found["verdict"]


def test_the_verdict_needs_two_standard_errors() -> None:
    second = Compared(name="b", method="simclr", values={})
    first = replace(second, name="a", ahead=0.03, stderr=0.01)
    assert "probably better" in verdict(first, second, USUAL_ORDER)
    assert "probably better" not in verdict(replace(first, stderr=0.016), second, USUAL_ORDER)


def test_the_verdict_says_how_often_labels_agreed_for_runs_of_one_method_or_of_two() -> None:
    first = Compared(name="a", method="simclr", values={}, ahead=0.03, stderr=0.01)
    for other, kind in (("simclr", "one method"), ("byol", "two methods"), ("", "two methods")):
        for order, pairs_of in LABELS_AGREED.items():
            agreed, pairs = pairs_of[kind]
            assert f"{agreed} of {pairs} pairs" in verdict(first, Compared(name="b", method=other, values={}), order)
            assert 0.5 < agreed / pairs <= 1


def test_what_cannot_be_compared_is_refused(trained: Path, tmp_path: Path) -> None:
    with raises("too-few-networks"):
        compare_without_labels([str(trained), str(trained)])
    with raises("no-images", "--images"):
        compare_without_labels([str(trained / "encoder"), f"{trained / 'encoder'}/"])
    few = tmp_path / "few.npy"
    np.save(few, np.zeros((5, 28, 28, 3), np.uint8))
    with raises("too-few-images", 5):
        compare_without_labels([str(trained), str(trained / "encoder")], few)


def test_students_of_patch_filters_are_ordered_by_their_views(trained: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(trained, student)
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(config | {"teacher": {"name": PATCH_FILTERS}}))
    found = compare_without_labels([str(trained), str(student)], count=COUNT, progress=False)
    assert found.order == FOR_STUDENTS
    assert NAMES[FOR_STUDENTS] in found.verdict
