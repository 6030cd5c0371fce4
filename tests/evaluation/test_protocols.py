"""Metrics of protocols on a small backbone: retrieval is a loop over the ranking, exits follow from the probe."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.core.types import Dataset
from limbeck.data.store.store import Store
from limbeck.evaluation.data import EvalData, as_store
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metrics import copies, exits, few_shot, knn, retrieval
from limbeck.evaluation.models import BackboneModel, Bank
from tests.helpers.shades import CFG, PLAIN, shades
from tests.helpers.tiny import tiny_vit


@pytest.fixture(scope="module")
def given() -> MetricInputs:
    torch.manual_seed(0)
    data = EvalData.of(shades(45, 0), shades(30, 1), replace(CFG, linear="logistic"))
    return MetricInputs(BackboneModel("net", tiny_vit(), PLAIN), data)


def test_retrieval_is_a_loop_over_the_ranking(given: MetricInputs) -> None:
    labels = given.data.labels
    assert labels is not None
    truth = labels.test.tolist()
    for depth, values in retrieval.compute(given).items():
        unit = F.normalize(given.test(depth).double(), dim=1)
        precisions, first = [], []
        for query in range(30):
            others = sorted((i for i in range(30) if i != query), key=lambda i: -float(unit[query] @ unit[i]))
            hits = [truth[i] == truth[query] for i in others]
            area = sum(
                (sum(hits[:r]) / r if r else 1.0) + sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits) if hit
            )
            precisions.append(area / 2 / sum(hits))
            first.append(hits[0])
        assert values["retrieval_map"] == pytest.approx(np.mean(precisions), abs=1e-3)
        assert values["recall_1"] == pytest.approx(np.mean(first), abs=1 / 30)


def test_images_of_one_class_have_no_ranking_and_keep_their_accuracy(given: MetricInputs) -> None:
    labels = given.data.labels
    assert labels is not None
    one = replace(given.data, labels=labels._replace(test=torch.zeros_like(labels.test)))
    inputs = MetricInputs(given.model, one)
    assert {value for values in retrieval.compute(inputs).values() for value in values.values()} == {None}
    assert all(values["knn"] is not None for values in knn.compute(inputs).values())
    assert {value for values in few_shot.compute(inputs).values() for value in values.values()} == {None}


def test_exits_cost_less_and_lose_little_where_they_were_chosen(given: MetricInputs) -> None:
    found = exits.compute(given)
    first, *_, last = found.values()
    assert first["exit_share"] == 0, "nothing is before the first depth"
    assert first["exit_gflops"] == pytest.approx(given.operations[1] / 1e9)
    assert last["exit_gflops"] is not None
    assert last["exit_gflops"] <= given.operations[3] / 1e9 * (1 + 1e-6)
    assert all(values["exit_threshold"] is not None for values in found.values())
    without = MetricInputs(given.model, replace(given.data, linear_probe=None))
    assert exits.compute(without) == {}


def test_copies_are_found_by_features_that_keep_the_image_and_only_on_request(given: MetricInputs) -> None:
    class Thumbnails(BackboneModel):
        """Pixels in the place of features."""

        def descriptors(self, data: EvalData, store: Dataset) -> Bank:
            return {1: torch.from_numpy(np.array(as_store(store).images)).flatten(1).float() - 128}

    noise = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    different = Store.from_arrays(noise, np.arange(30) % 3, ["dark", "gray", "light"])
    data = replace(given.data, test=different, cfg=replace(given.data.cfg, copies=True))
    found = copies.compute(MetricInputs(Thumbnails("net", tiny_vit(), PLAIN, [1]), data))[1]
    assert found == copies.compute(MetricInputs(Thumbnails("net", tiny_vit(), PLAIN, [1]), data))[1]
    assert all(value is not None and 0 < value <= 1 for value in found.values())
    assert copies.compute(given) == {}
