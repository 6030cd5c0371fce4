"""Where the authors' numbers are, their type, and how they are compared."""

from pathlib import Path

import numpy as np
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
Golden = dict[str, np.ndarray]


def assert_allclose(
    found: Tensor | np.ndarray | float | None,
    expected: Tensor | np.ndarray | float,
    rtol: float = 1e-7,
    atol: float = 0.0,
    name: str = "",
) -> None:
    """Compare a tensor, such as a gradient that must exist, with the authors' numbers."""
    assert found is not None, name
    np.testing.assert_allclose(_array(found), _array(expected), rtol, atol, err_msg=name)


def _array(numbers: Tensor | np.ndarray | float) -> np.ndarray:
    return numbers.detach().numpy() if isinstance(numbers, Tensor) else np.asarray(numbers)
