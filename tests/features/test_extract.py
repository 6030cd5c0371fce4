"""One pass over a store gives what the backbone says of each image, wherever the features are kept."""

import numpy as np
import pytest
import torch

from limbeck.core.devices import resolve_bf16
from limbeck.data.augment.apply import eval_view
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD, preset
from limbeck.data.store.store import Store
from limbeck.features.extract import extract
from limbeck.features.images import augmented_images, eval_images
from tests.helpers.tiny import SIZE, tiny_vit

CPU = torch.device("cpu")
STORE = Store.from_arrays(np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE, 3), np.uint8))
ROWS = np.arange(len(STORE))
LOOK = eval_images(STORE, SIZE, IMAGENET_MEAN, IMAGENET_STD, CPU)


def test_every_tap_of_every_row_in_eval_mode_and_the_mode_restored() -> None:
    backbone = tiny_vit().train()
    found = extract(backbone, LOOK, ROWS, device=CPU, batch_size=4)
    assert backbone.training
    images = eval_view(torch.from_numpy(STORE.images), SIZE, IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        expected = backbone.eval()(images, taps=backbone.taps)
    assert set(found) == set(backbone.taps)
    for tap, values in found.items():
        torch.testing.assert_close(values, expected.taps[tap])


def test_rows_are_taken_in_the_order_asked_for() -> None:
    backbone = tiny_vit()
    everything = extract(backbone, LOOK, ROWS, device=CPU)
    some = extract(backbone, LOOK, ROWS[[7, 2, 5]], device=CPU, batch_size=2)
    torch.testing.assert_close(some[3], everything[3][[7, 2, 5]])


def test_a_memory_map_holds_the_same_and_can_be_trained_on() -> None:
    backbone = tiny_vit()
    kept, mapped = (extract(backbone, LOOK, ROWS, device=CPU, memory=memory) for memory in (2**20, 0))
    for tap, values in mapped.items():
        torch.testing.assert_close(values, kept[tap], rtol=0, atol=0)
    weight = torch.ones(16, 1, requires_grad=True)
    (mapped[1][torch.tensor([0, 3])] @ weight).sum().backward()
    assert weight.grad is not None


def test_augmented_views_belong_to_the_row_and_differ_by_index_and_seed() -> None:
    view = preset("byol", SIZE)[1]

    def look(index: int, seed: int, rows: list[int]) -> torch.Tensor:
        return augmented_images(STORE, view, index, CPU, seed)(np.array(rows))

    torch.testing.assert_close(look(0, 0, [3, 8])[1], look(0, 0, [8])[0])
    assert not torch.equal(look(0, 0, [3]), look(1, 0, [3]))
    assert not torch.equal(look(0, 0, [3]), look(0, 1, [3]))


@pytest.mark.parametrize(("precision", "expected"), [("bf16", True), ("fp32", False)])
def test_a_precision_that_is_named_is_taken(precision: str, expected: bool) -> None:
    assert resolve_bf16(precision, CPU) is expected  # type: ignore[arg-type]


def test_bf16_features_are_kept_in_float32_and_are_near() -> None:
    backbone = tiny_vit()
    exact, rounded = (extract(backbone, LOOK, ROWS, device=CPU, bf16=bf16) for bf16 in (False, True))
    assert rounded[3].dtype == torch.float32
    torch.testing.assert_close(rounded[3], exact[3], rtol=0.05, atol=0.05)
    assert not torch.equal(rounded[3], exact[3])
