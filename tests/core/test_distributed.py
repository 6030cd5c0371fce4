"""Synchronised BatchNorm: what is converted, and what cannot be. That it is right is a law (tests/conformance)."""

import pytest
import timm
import torch
from torch import nn

from limbeck.core import distributed
from limbeck.core.distributed import gather, sync_batchnorm
from tests.helpers.errors import raises


def test_one_process_needs_nothing() -> None:
    x, module = torch.randn(2, 3), nn.BatchNorm1d(3)
    assert gather(x) is x
    assert type(sync_batchnorm(module, torch.device("cpu"))) is nn.BatchNorm1d


def test_on_gpus_activations_inside_norms_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own conversion drops them: the network answers something else, silently."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    model = timm.create_model("efficientnet_lite0", num_classes=0)
    norms = [m.act for m in model.modules() if isinstance(m, timm.layers.BatchNormAct2d)]
    synced = sync_batchnorm(model, torch.device("cuda"))
    assert [type(m.act) for m in synced.modules() if isinstance(m, nn.SyncBatchNorm)] == [type(act) for act in norms]


def test_on_cpus_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with raises("batchnorm-not-synchronizable", "BatchNormAct2d"):
        sync_batchnorm(timm.create_model("efficientnet_lite0", num_classes=0), torch.device("cpu"))
