"""Local crops of hosts with two views and an EMA encoder: every crop predicts both global views, and is no target."""

import pytest
import torch
from torch import Tensor

from limbeck.core.types import StepInfo
from limbeck.methods.base import SymmetricEMAHost
from limbeck.methods.config.byol import BYOLConfig
from limbeck.methods.config.mocov3 import MoCoV3Config
from tests.helpers.tiny import batch_for, shrink, tiny_vit

COUNT = 5


def rowwise(name: str, queries: Tensor, keys: Tensor) -> Tensor:
    """Return the loss of a pass, row by row, as the papers write it."""
    total = queries.new_zeros(())
    for i, q in enumerate(queries):
        cosines = [q @ k / (q.norm() * k.norm()) for k in keys]
        if name == "byol":
            total = total + (2 - 2 * cosines[i]) / len(queries)
        else:
            shares = torch.stack([torch.exp(cosine / 0.2) for cosine in cosines])
            total = total - 2 * 0.2 * torch.log(shares[i] / shares.sum()) / len(queries)
    return total


@pytest.mark.parametrize("config", [BYOLConfig(views="dino"), MoCoV3Config(views="multicrop")])
def test_every_local_crop_predicts_both_global_views(config: BYOLConfig | MoCoV3Config) -> None:
    """Value and gradient in float64."""
    torch.manual_seed(0)
    method = shrink(config).build(tiny_vit()).double()
    assert isinstance(method, SymmetricEMAHost)
    with torch.no_grad():  # a fresh CLS token is 1e-6 long, and the EMA encoder shall differ
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = batch_for(config, COUNT, torch.float64)
    assert len({view.shape[-1] for view in batch.views}) == 2
    loss = method(batch, StepInfo(0, 1)).total
    with torch.no_grad():
        keys = [method.ema_encoder.module(view) for view in batch.views[:2]]
    expected = torch.zeros((), dtype=torch.float64)
    for index, view in enumerate(batch.views):
        query = method.head.predict(method.head.project(method.backbone(view).final))
        for other, key in enumerate(keys):
            if other != index:
                expected = expected + rowwise(config.name, query, key)
    torch.testing.assert_close(loss, expected)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    for one, reference in zip(*(torch.autograd.grad(t, trained) for t in (loss, expected)), strict=True):
        torch.testing.assert_close(one, reference)
