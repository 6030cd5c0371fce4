"""Fidelity during training is the fidelity of the last layer on the held-out images."""

import numpy as np
import pytest
import torch

from limbeck.core.devices import resolve_bf16
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.store.store import Store
from limbeck.evaluation.teacher_fidelity import fidelity_callback
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.metrics.fidelity import fidelity
from tests.helpers.errors import raises
from tests.helpers.tiny import SIZE, tiny_vit

CPU = torch.device("cpu")


def test_the_callback_is_the_fidelity_of_the_last_layer_on_its_images() -> None:
    store = Store.from_arrays(np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), np.uint8))
    indices = np.random.default_rng(1).permutation(40)[:30]
    images = eval_images(store, SIZE, IMAGENET_MEAN, IMAGENET_STD, CPU)
    student, teacher = tiny_vit(), tiny_vit(depth=2)
    bf16 = resolve_bf16("auto", CPU)
    vectors = extract(teacher, images, indices, device=CPU, bf16=bf16)[2]
    expected = fidelity(extract(student, images, indices, device=CPU, bf16=bf16)[3], vectors, k=5)
    found = fidelity_callback(images, indices, vectors, CPU, k=5)(student)
    assert found == {
        "neighbor_agreement": expected.neighbor_agreement,
        "neighbor_agreement_chance": expected.chance,
        "cka": pytest.approx(expected.cka, rel=1e-4),
    }
    itself = fidelity_callback(images, indices, vectors.half(), CPU, k=5)(teacher)
    assert itself["neighbor_agreement"] > 0.95
    assert itself["cka"] == pytest.approx(1.0, abs=1e-4)
    with raises("too-few-images", 5, 6):
        fidelity_callback(images, indices[:6], vectors[:6], CPU, k=5)
