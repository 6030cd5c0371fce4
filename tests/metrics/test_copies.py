"""Copy detection against numbers of DINO's code: features, whitening, and mean average precisions."""

from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.metrics.copies import CopyWhitening, copy_precision, gem
from tests.helpers.golden import Golden, assert_allclose

OWN = ("original", "jpeg3", "crops80")


def features(tokens: Tensor) -> Tensor:
    """Return the first token and the generalized mean of the others."""
    return torch.cat([tokens[:, 0], gem(tokens[:, 1:].mT)], dim=1)


def test_features_whitening_and_precisions_are_those_of_the_authors(golden: Callable[[str], Golden]) -> None:
    truth = golden("copies")
    names = (*OWN, "strong", "distractors", "whitening")
    found = {name: features(torch.from_numpy(truth[f"tokens_{name}"])) for name in names}
    assert_allclose(found["original"], truth["features_original"], rtol=1e-7, atol=1e-9)
    whitening = CopyWhitening.fit(found["whitening"])
    signs = (whitening.projection * torch.from_numpy(truth["whitening_matrix"])).sum(dim=1).sign()
    assert_allclose(signs[:, None] * whitening.projection, truth["whitening_matrix"], rtol=1e-7, atol=1e-9)
    owners = {name: torch.arange(12) for name in OWN} | {"strong": torch.from_numpy(truth["strong_owner"])}
    for change, key in ((lambda x: x, "map_plain"), (whitening, "map_whitened")):
        database = change(torch.cat([found["original"], found["distractors"]]))
        maps = [copy_precision(change(found[n]), database, owners[n]).mean() for n in ("original", "strong", *OWN[1:])]
        assert_allclose(torch.stack(maps), truth[key], rtol=1e-7, atol=1e-9)


def test_negative_values_are_floored_before_the_mean() -> None:
    maps = torch.tensor([[[[-3.0, 1.0], [2.0, -1.0]]]], dtype=torch.float64)
    assert_allclose(gem(maps), torch.tensor([[((1 + 16 + 2e-24) / 4) ** 0.25]], dtype=torch.float64), rtol=1e-12)
