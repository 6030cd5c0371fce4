"""A new kind of data trains with the methods, the losses and the loop as they are, and from the command line."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.core.config import to_json
from limbeck.core.types import LossOutput, StepInfo
from limbeck.methods import Method, MethodConfig
from limbeck.methods.config.byol import BYOLConfig
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.interrupt import Interrupted
from limbeck.train.loop import train
from tests.helpers import series
from tests.helpers.package_copy import copy_package, run_command

METHODS = [SimCLRConfig(hidden=16, dim=8), SDSSLConfig(host=BYOLConfig(hidden=16, dim=8), hidden=16)]
TRAINING = TrainConfig(epochs=6, batch_size=16, precision="fp32", log_every_steps=1, loggers=())
WALL_TIME = ("images_per_second", "data_wait")
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of 64 series of 12 steps in 2 channels: sines of random frequency and phase, with noise."""
    rng = np.random.default_rng(0)
    frequency, phase = rng.uniform(0.2, 1.5, (2, 64, 1, 2))
    values = np.sin(frequency * np.arange(12)[:, None] + 4 * phase) + 0.1 * rng.standard_normal((64, 12, 2))
    file = tmp_path_factory.mktemp("series") / "sines.npy"
    np.save(file, values)
    return file


def build(config: MethodConfig, seed: int) -> Method:
    torch.manual_seed(seed)
    return config.build(series.SeriesEncoder(series.SeriesConfig(channels=2)))


def fit(data: Path, run: Path, config: MethodConfig, method: Method, *, resume: bool = False) -> Method:
    views = series.MODALITY.make_views(config, series.SeriesConfig(channels=2))
    train(
        method,
        series.SeriesData(data),
        views,
        TRAINING,
        OptimConfig(lr=0.1),
        run,
        config=to_json(config),
        loader=series.SeriesLoader,
        resume=resume,
    )
    return method


@torch.no_grad()
def loss_of_other_views(data: Path, method: Method) -> float:
    """Return the loss of all series in views of a seed that training does not use."""
    views = (series.SeriesView(), series.SeriesView())
    loader = series.SeriesLoader(series.SeriesData(data), views, 64, seed=9, device=CPU)
    return float(method(loader.fixed_batch(np.arange(64)), StepInfo(0, 1)).total)


def stop_in_step(method: Method, number: int) -> Method:
    """Let the method send its own process a signal in an optimizer step."""
    after_step = method.after_step

    def stopping(loss: LossOutput, step_info: StepInfo) -> None:
        after_step(loss, step_info)
        if step_info.step == number:
            os.kill(os.getpid(), signal.SIGTERM)

    method.after_step = stopping  # type: ignore[method-assign]
    return method


def logged(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in WALL_TIME} for row in csv.DictReader(file)]


@pytest.mark.parametrize("config", METHODS, ids=lambda config: config.name)
def test_series_train_and_resume_to_the_same_bits(tmp_path: Path, data: Path, config: MethodConfig) -> None:
    whole = fit(data, tmp_path / "whole", config, build(config, 0))
    with pytest.raises(Interrupted):
        fit(data, tmp_path / "parts", config, stop_in_step(build(config, 0), 4))
    parts = fit(data, tmp_path / "parts", config, build(config, 1), resume=True)
    expected, got = whole.state_dict(), parts.state_dict()
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    rows = logged(tmp_path / "whole")
    assert rows == logged(tmp_path / "parts")
    assert len(rows) == 24
    assert loss_of_other_views(data, whole) < 0.9 * loss_of_other_views(data, build(config, 0))


def test_views_and_masks_follow_from_seed_epoch_view_and_row(data: Path) -> None:
    def loader(rank: int, world_size: int, seed: int = 5) -> series.SeriesLoader:
        views = (series.SeriesView(), series.SeriesView())
        store = series.SeriesData(data)
        return series.SeriesLoader(store, views, 16, seed=seed, device=CPU, rank=rank, world_size=world_size)

    whole = list(loader(0, 1).batches(0, 8))
    for rank in range(2):
        for batch, part in zip(whole, loader(rank, 2).batches(0, 8), strict=True):
            for one, other in zip((*batch.views, *batch.masks), (*part.views, *part.masks), strict=True):
                assert torch.equal(one[rank::2], other)
    fixed = loader(0, 1).fixed_batch(whole[2].indices.numpy())
    assert torch.equal(fixed.masks[1], whole[2].masks[1])
    assert not torch.equal(fixed.masks[0], fixed.masks[1])
    assert not torch.equal(fixed.masks[0], loader(0, 1, seed=6).fixed_batch(whole[2].indices.numpy()).masks[0])
    hidden = torch.stack([mask.float().mean() for batch in whole for mask in batch.masks]).mean()
    assert 0.15 < float(hidden) < 0.25
    assert not whole[0].views[0][whole[0].masks[0]].any()


def test_a_cut_computes_the_tap(data: Path) -> None:
    encoder = series.SeriesEncoder(series.SeriesConfig(channels=2))
    values = torch.randn(3, 12, 2)
    features = encoder(values, encoder.taps)
    for depth in encoder.taps:
        assert torch.equal(encoder.cut(depth)(values).final, features.taps[depth])


@pytest.mark.slow
def test_a_module_is_all_that_the_command_line_needs(tmp_path: Path, data: Path) -> None:
    folder = copy_package(tmp_path)
    shutil.copy(series.__file__, folder / "limbeck" / "modalities" / "series.py")
    flags = ["--epochs", "2", "--batch-size", "16", "--method.hidden", "16", "--backbone.depth", "2"]
    run_command(folder, "pretrain", data, "--out", "run", "--method", "sdssl", "--method.host.hidden", "16", *flags)
    config = json.loads((folder / "run" / "config.json").read_text())
    assert (config["backbone"]["name"], config["backbone"]["channels"]) == ("dilated_conv", 2)
    assert (folder / "run" / "encoder" / "model.safetensors").exists()
    before = logged(folder / "run")
    (folder / "run" / "checkpoint.ckpt").unlink()
    run_command(folder, "resume", "run")
    assert logged(folder / "run") == before
    run_command(folder, "report", "run", "--out", "report.html")
    assert "dilated_conv" in (folder / "report.html").read_text()
