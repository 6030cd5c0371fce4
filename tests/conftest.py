"""Fixtures for every test: no network, one thread, so that the numbers are the same everywhere."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands import limbeck, photos, trained

__all__ = ["limbeck", "photos", "trained"]

os.environ.setdefault("HF_HUB_OFFLINE", "1")

GOLDEN = Path(__file__).parent / "golden"
Golden = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    """Reads tests/golden/<name>.npz (the authors' numbers; origins in tests/golden/README.md)."""

    def read(name: str) -> Golden:
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return read
