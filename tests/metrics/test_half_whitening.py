"""Half-whitening against its definition in float64."""

import numpy as np
import pytest
import torch

from limbeck.metrics.whitening import HalfWhitening


def bank(rows: int, dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, dim, generator=generator) * torch.logspace(0, -2, dim) + 3


@pytest.mark.parametrize(("rows", "dim", "components"), [(60, 9, 256), (60, 9, 4), (5, 9, 256)])
def test_components_are_divided_by_the_fourth_root_of_their_variance(rows: int, dim: int, components: int) -> None:
    values = bank(rows, dim)
    whiten = HalfWhitening.fit(values, components)
    found = whiten(values).double().numpy()
    centered = values.double().numpy() - values.double().numpy().mean(axis=0)
    _, singular, right = np.linalg.svd(centered, full_matrices=False)
    variance = singular**2 / (rows - 1)
    count = min(components, dim, rows - 1)
    expected = (centered @ right.T / variance**0.25)[:, :count]
    assert found.shape == (rows, count)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(found.var(axis=0, ddof=1), variance[:count] ** 0.5, rtol=1e-3)


def test_cosines_do_not_depend_on_a_rotation_a_shift_or_a_scale() -> None:
    values = bank(60, 9).double()
    rotation = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    first, other = (HalfWhitening.fit(v)(v) for v in (values, 5 * values @ rotation + 1))
    unit, other_unit = (torch.nn.functional.normalize(v, dim=1) for v in (first, other))
    torch.testing.assert_close(unit @ unit.mT, other_unit @ other_unit.mT)


@pytest.mark.parametrize("values", [torch.ones(4, 3), torch.ones(1, 3)])
def test_features_without_variance_stay_finite(values: torch.Tensor) -> None:
    assert HalfWhitening.fit(values)(values).isfinite().all()
