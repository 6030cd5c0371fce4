"""Checkpoints: whole or not at all, of this configuration or refused."""

import os
from pathlib import Path

import pytest
import torch

from limbeck.core.config import Json
from limbeck.train.checkpoint import first_difference, load_checkpoint, save_checkpoint
from limbeck.train.config import OptimConfig
from limbeck.train.optim import build_optimizer
from tests.helpers.errors import raises
from tests.helpers.toy import Toy, toy

CONFIG: dict[str, Json] = {"train": {"epochs": 2, "betas": [0.9, 0.999]}, "method": {"name": "toy"}}


def stepped(seed: int) -> tuple[Toy, torch.optim.Optimizer]:
    """Return a toy after one step, so that the optimizer has a state."""
    method = toy(seed)
    optimizer = build_optimizer(method, OptimConfig(lr=0.1))
    method.backbone(torch.randn(4, 3, 8, 8)).final.square().mean().backward()
    optimizer.step()
    return method, optimizer


def test_everything_comes_back(tmp_path: Path) -> None:
    method, optimizer = stepped(seed=0)
    save_checkpoint(tmp_path / "c.ckpt", 7, method, optimizer, CONFIG)
    other, others = stepped(seed=1)
    assert load_checkpoint(tmp_path / "c.ckpt", other, others, CONFIG) == 7
    for name, value in method.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    for before, after in zip(optimizer.state.values(), others.state.values(), strict=True):
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_previous_one_survives_a_crash_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, optimizer = stepped(seed=0)
    path = tmp_path / "c.ckpt"
    save_checkpoint(path, 1, method, optimizer, CONFIG)
    before = path.read_bytes()

    def fail(file: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, 2, method, optimizer, CONFIG)
    assert path.read_bytes() == before


def test_another_configuration_is_refused_with_its_first_field(tmp_path: Path) -> None:
    method, optimizer = stepped(seed=0)
    save_checkpoint(tmp_path / "c.ckpt", 1, method, optimizer, CONFIG)
    other: dict[str, Json] = CONFIG | {"train": {"epochs": 3, "betas": [0.9, 0.95]}}
    with raises("checkpoint-config", "train.epochs was 2 and is 3"):
        load_checkpoint(tmp_path / "c.ckpt", method, optimizer, other)


@pytest.mark.parametrize(
    ("saved", "current", "expected"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a was [1, 2] and is [1, 3]"),
        ({"a": {"b": None}}, {"a": {"b": "x"}}, 'a.b was null and is "x"'),
        ({}, {"new": True}, "new was null and is true"),
        ({"old": 1}, {}, "old was 1 and is null"),
    ],
)
def test_first_difference(saved: Json, current: Json, expected: str) -> None:
    assert first_difference(saved, current) == expected


@pytest.mark.parametrize("content", [b"", b"half a file", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."])
def test_a_file_that_is_no_checkpoint_is_refused_without_running_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.ckpt").write_bytes(content)
    with raises("checkpoint-unreadable", "c.ckpt"):
        load_checkpoint(tmp_path / "c.ckpt", *stepped(seed=0), CONFIG)


def test_another_version_is_refused(tmp_path: Path) -> None:
    torch.save({"version": 0}, tmp_path / "c.ckpt")
    with raises("checkpoint-version", "version 0"):
        load_checkpoint(tmp_path / "c.ckpt", *stepped(seed=0), CONFIG)
