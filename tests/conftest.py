"""Fixtures for every test: no network, one thread, so that the numbers are the same everywhere."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import unsynced
from tests.helpers.commands import limbeck, photos, trained
from tests.helpers.golden import GOLDEN, Golden

__all__ = ["limbeck", "photos", "trained", "unsynced"]

gc.disable()  # until the tests begin
os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)  # here as well, for fixtures of a module
if not hasattr(sys.modules["__main__"], "__file__"):  # a worker of pytest-xdist, which stands for the script pytest
    sys.modules["__main__"].__file__ = pytest.__file__


def pytest_collection_finish() -> None:
    """Look for garbage seldom, and not in what is imported: that is a tenth of the time of the tests otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _shortest_timing() -> Iterator[None]:
    """Estimate a run from its smallest batch, and a latency from one call: no test needs them to be exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.runs.run_length.BUDGET", 0.0)
        patch.setattr("limbeck.runs.run_length.LONGEST", 0.0)
        patch.setattr("limbeck.metrics.cost.MIN_ROUNDS", 1)
        patch.setattr("limbeck.metrics.cost.MAX_ROUNDS", 1)
        yield


@pytest.fixture(autouse=True, scope="session")
def _few_filters() -> Iterator[None]:
    """Fit few patch filters where a test gives no settings: by default they take seconds for any number of images."""
    from limbeck.models.patch_filters import PatchFiltersConfig

    few = partial(PatchFiltersConfig, filters=20, patches=2000, iterations=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.features.fitted_patch_filters.PatchFiltersConfig", few)
        patch.setattr("limbeck.modalities.images.sizes.FILTERS", few().filters)  # of networks that are not named
        few_patches = partial(PatchFiltersConfig, patches=2000, iterations=2)
        patch.setattr("limbeck.modalities.images.join.PatchFiltersConfig", few_patches)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_table_of_operators() -> Iterator[None]:
    """Let torch read its table of ONNX operators once: it does so for every export, which is a fifth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        with suppress(ImportError, AttributeError):  # of a torch that keeps it elsewhere
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_look_for_callbacks() -> Iterator[None]:
    """Let Fabric ask the installed packages once for their callbacks: it does so at every start of a run."""
    fabric: Any = import_module("lightning_fabric.fabric")
    with pytest.MonkeyPatch.context() as patch:
        with suppress(AttributeError):  # of a Fabric that does not ask
            patch.setattr(fabric, "_load_external_callbacks", cache(fabric._load_external_callbacks))
        yield


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    """Read tests/golden/<name>.npz (the authors' numbers; origins in tests/golden/README.md)."""

    def read(name: str) -> Golden:
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return read
