"""The classifier: cross-entropy of the rows with a label, by its formula, and a frozen network where it is alone."""

import torch
import torch.nn.functional as F

from limbeck.core.types import Batch, StepInfo
from limbeck.methods.config.classifier import ClassifierConfig
from tests.helpers.errors import raises
from tests.helpers.tiny import images, tiny_vit

STEP = StepInfo(0, 1)


def test_equals_its_definition_with_and_without_smoothing_and_labels() -> None:
    for smoothing in (0.0, 0.1):
        torch.manual_seed(0)
        method = ClassifierConfig(num_classes=3, label_smoothing=smoothing).build(tiny_vit()).double()
        view, labels = images(4, torch.float64)[0], torch.tensor([2, -1, 0, 2])
        logits = method.classifier(method.backbone(view).final)
        expected = logits.new_zeros(())
        for row, label in zip(logits, labels.tolist(), strict=True):
            shares = [(label == c) * (1 - smoothing) + smoothing / 3 for c in range(3)]
            cross = sum(share * (torch.logsumexp(row, 0) - value) for share, value in zip(shares, row, strict=True))
            expected = expected + (cross / 4 if label >= 0 else 0)
        loss = method(Batch((view,), torch.arange(4), labels), STEP).total
        torch.testing.assert_close(loss, expected)
        trained = [p for p in method.parameters() if p.requires_grad]
        for pair in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(expected, trained), strict=True):
            torch.testing.assert_close(*pair)


def test_the_head_alone_leaves_the_network_as_it_is() -> None:
    method = ClassifierConfig(num_classes=3, layers="head").build(tiny_vit()).train()
    assert not method.backbone.training
    assert method.classifier.training
    method(Batch((images(4)[0],), torch.arange(4), torch.tensor([0, 1, 2, 0])), STEP).total.backward()
    assert [name for name, p in method.named_parameters() if p.grad is not None] == [
        "classifier.weight",
        "classifier.bias",
    ]


def test_rows_without_a_label_change_no_bit() -> None:
    method = ClassifierConfig(num_classes=3).build(tiny_vit()).double().eval()
    view, labels = images(4, torch.float64)[0], torch.tensor([2, -1, 0, -1])
    changed = view.clone()
    changed[1], changed[3] = view[3], view[1]
    found = [method(Batch((x,), torch.arange(4), labels), STEP).total for x in (view, changed)]
    assert torch.equal(*found)
    alone = F.cross_entropy(method.embed(view[[0, 2]]), labels[[0, 2]], reduction="sum") / 4
    torch.testing.assert_close(found[0], alone)


def test_shares_that_are_none_are_refused() -> None:
    for share in (0.0, 1.5):
        with raises("value-out-of-range", f"{share:g}"):
            ClassifierConfig(label_share=share)
    with raises("label-smoothing-out-of-range", 1):
        ClassifierConfig(label_smoothing=1.0)
    with raises("labels-needed", "one class"):
        ClassifierConfig().check_classes(1)
