"""Heads against the authors' numbers: training output, buffers after it, evaluation output after that."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from limbeck.heads import Head, mlp

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
