"""Synchronised BatchNorm: what is converted, and what cannot be. That it is right is a law (tests/conformance)."""

import pytest
import timm
import torch
from torch import nn

from limbeck.core import distributed
from limbeck.core.distributed import gather, is_rank0, sync_batchnorm
from limbeck.core.errors import UserError


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
    with pytest.raises(UserError, match="BatchNormAct2d cannot be synchronised between processes on CPUs"):
        sync_batchnorm(timm.create_model("efficientnet_lite0", num_classes=0), torch.device("cpu"))


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"RANK": "3", "LOCAL_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),  # torchrun counts machines in its own order
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, False),  # started by Fabric within an interactive job
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "2"}, False),
    ],
)
def test_the_first_process_is_known_before_they_meet(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], first: bool
) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_rank0() is first
