"""The choice of a device and of bf16."""

import pytest
import torch

from limbeck.core import devices
from limbeck.core.devices import choose_device, local_device, resolve_bf16, resolve_precision
from tests.helpers.errors import raises


@pytest.mark.parametrize(("cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_if_there_is_any(monkeypatch: pytest.MonkeyPatch, cuda: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert choose_device().type == kind


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "gpu", "xla"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with raises("unusable-device", name):
        choose_device(name)
    assert choose_device("cpu") == torch.device("cpu")


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device() == torch.device("cuda:3")
    assert local_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("supported", [True, False])
def test_auto_is_bf16_if_the_hardware_supports_it(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(devices, "supports_bf16", lambda kind: supported)
    assert resolve_bf16("auto", torch.device("cpu")) == supported
    assert resolve_bf16("bf16", torch.device("cpu"))
    assert not resolve_bf16("fp32", torch.device("cpu"))


@pytest.mark.parametrize(
    ("kind", "supported", "expected"), [("cuda", True, "bf16"), ("cuda", False, "fp16"), ("cpu", False, "fp32")]
)
def test_where_bf16_is_missing_a_gpu_trains_in_fp16(
    monkeypatch: pytest.MonkeyPatch, kind: str, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(devices, "supports_bf16", lambda kind: supported)
    assert resolve_precision("auto", torch.device(kind)) == expected
    assert resolve_precision("fp32", torch.device(kind)) == "fp32"
    assert not resolve_bf16("fp16", torch.device(kind))


def test_the_gpu_of_a_mac_is_accepted_where_there_is_one() -> None:
    if torch.backends.mps.is_available():
        assert choose_device("mps").type == "mps"
    else:
        with raises("unusable-device", "mps"):
            choose_device("mps")
