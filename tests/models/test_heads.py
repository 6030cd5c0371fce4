"""Heads against the authors' numbers: training output, then buffers, then evaluation output."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from limbeck.models.heads import Head, HypercolumnPool, hypercolumn, mlp

WIDTHS = {"proj_last_bn": (10, 12, 12, 6), "proj_no_last_bn": (10, 12, 12, 6), "pred_last_bn": (6, 12, 6)}


@pytest.mark.parametrize("case", WIDTHS)
def test_mlp_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], case: str) -> None:
    arrays = {k.removeprefix(f"{case}/"): v for k, v in golden("sdssl_mlp_heads").items() if k.startswith(case)}
    head = mlp(WIDTHS[case], trailing_norm="no_last" not in case).double()
    head.load_state_dict(
        {k.removeprefix("w/net."): torch.as_tensor(v) for k, v in arrays.items() if k.startswith("w/")}
    )
    x = torch.from_numpy(arrays["in/x"])
    assert_allclose(head(x).detach(), arrays["out/train"], rtol=1e-7, atol=1e-9)
    for key, value in head.state_dict().items():
        if f"after/net.{key}" in arrays:
            assert_allclose(value, arrays[f"after/net.{key}"], rtol=1e-7, atol=1e-9)
    assert_allclose(head.eval()(x).detach(), arrays["out/eval_after_one_update"], rtol=1e-7, atol=1e-9)


def test_without_predictor_projections_are_predictions() -> None:
    z = torch.randn(3, 4)
    assert Head(mlp([5, 6, 4], trailing_norm=True)).predict(z) is z


@pytest.mark.parametrize(("large", "small"), [("x", "y_3x3"), ("x", "y_4x4"), ("x_2x", "y_2x")])
def test_maps_are_resized_as_by_the_authors_of_cgh(
    golden: Callable[[str], dict[str, np.ndarray]], large: str, small: str
) -> None:
    g = golden("cgh_downsample")
    last = torch.randn(g[small].shape, dtype=torch.float64)
    column = hypercolumn([torch.from_numpy(g[large]), last])
    assert_allclose(column[:, :6], g[small], rtol=0, atol=1e-9)
    assert torch.equal(column[:, 6:], last)


def test_hypercolumn_pool_equals_its_definition() -> None:
    """Means of 2 x 2, a 1x1 convolution, BatchNorm over images and positions, ReLU, mean; value and gradient."""
    pool = HypercolumnPool([2, 3], 4).double()
    large = torch.randn(5, 2, 4, 4, dtype=torch.float64).requires_grad_(True)
    small = torch.randn(5, 3, 2, 2, dtype=torch.float64).requires_grad_(True)
    conv, norm, _ = pool.mix
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    columns = torch.stack(
        [
            torch.cat([large[i, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean(dim=(1, 2)), small[i, :, y, x]])
            for i in range(5)
            for y in range(2)
            for x in range(2)
        ]
    )
    mixed = columns @ conv.weight[:, :, 0, 0].T
    centered = mixed - mixed.mean(dim=0)
    normed = centered / (centered.square().mean(dim=0) + 1e-5).sqrt() * norm.weight + norm.bias
    expected = normed.clamp(min=0).unflatten(0, (5, 4)).mean(dim=1)
    found = pool([large, small])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    cotangent, inputs = torch.randn_like(found), (large, small, *pool.parameters())
    for pair in zip(*(torch.autograd.grad(out, inputs, cotangent) for out in (found, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-11)
