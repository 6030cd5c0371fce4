"""Views that find each other: the definition as a loop, and cases with a known answer."""

import torch

from limbeck.metrics.views import view_retrieval


def test_it_is_its_definition() -> None:
    features = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features = features + 1.5 * features[:, :1]
    rows = [(image, view) for image in range(6) for view in range(4)]
    expected = torch.zeros(6, dtype=torch.float64)
    for image, view in rows:
        query = features[image, view] / features[image, view].norm()
        others = [other for other in rows if other != (image, view)]
        cosines = {other: float(query @ features[other] / features[other].norm()) for other in others}
        nearest = sorted(others, key=lambda other: -cosines[other])[:3]
        expected[image] += sum(other[0] == image for other in nearest) / 3 / 4
    assert 0 < expected.mean() < 1
    torch.testing.assert_close(view_retrieval(features), expected)


def test_equal_views_find_each_other_and_unrelated_ones_do_so_by_chance() -> None:
    images = torch.randn(40, 1, 16, generator=torch.Generator().manual_seed(0))
    assert view_retrieval(images.expand(-1, 5, -1)).eq(1).all()
    unrelated = torch.randn(100, 5, 16, generator=torch.Generator().manual_seed(1))
    found = view_retrieval(unrelated)
    assert abs(found.mean() - 4 / 499) < 4 * found.std() / 10
