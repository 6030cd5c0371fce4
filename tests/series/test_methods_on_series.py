"""Every method that has no teacher and is not for other data alone takes a step on series."""

import pytest
import torch

from limbeck.methods import DistillConfig, MethodConfig
from tests.helpers import tiny
from tests.helpers.tiny import STEP, configs
from tests.helpers.tiny_series import series_batch, tiny_encoder

CONFIGS = {
    name: config
    for name, config in configs().items()
    if not isinstance(config, DistillConfig) and (config.only_on is None or config.only_on[0] == "series")
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_step_has_a_finite_loss_and_a_gradient(config: MethodConfig) -> None:
    method = tiny.build(config, tiny_encoder())
    loss = method(series_batch(config, tiny.COUNT), STEP)
    loss.total.backward()
    gradient = method.backbone.get_parameter("blocks.0.conv1.weight").grad
    assert loss.total.isfinite()
    assert gradient is not None
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        method.after_step(loss, STEP)
