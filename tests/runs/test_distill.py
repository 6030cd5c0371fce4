"""Distillation as a user runs it: any teacher, live or kept, resumed, from the command line; and what it refuses."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.data.samples import digits
from limbeck.methods import DistillConfig, MethodConfig, distill_config, method_config, method_names
from limbeck.models.backbone import BackboneConfig
from limbeck.models.encoder_io import load
from limbeck.runs.api import distill, pretrain, resume
from limbeck.runs.resolve import read_config
from limbeck.teachers import TeacherConfig
from limbeck.train.config import TrainConfig
from limbeck.train.interrupt import Interrupted
from limbeck.train.optim import OptimConfig
from tests.helpers.commands import Run
from tests.helpers.tiny import SIZES, shrink

COUNT = 100
SMALL: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8]}
STUDENT = BackboneConfig(name="resnet18", image_size=16, args=SMALL)
TRAIN = TrainConfig(epochs=2, batch_size=20, eval_every_epochs=1, precision="fp32")
NAMES = [name for name in method_names() if issubclass(method_config(name), DistillConfig)]
OWN = TeacherConfig(name="mine", image_size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), precision="fp32")


def images() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = digits()
    return np.ascontiguousarray(pixels[:COUNT, 6:22, 6:22]), labels[:COUNT]


class Quarters(nn.Module):
    """The brightness of sixteen parts of an image."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.mix = nn.Linear(48, 12)
        with torch.no_grad():
            self.mix.weight.copy_(torch.randn(12, 48, generator=torch.Generator().manual_seed(seed)))
            self.mix.bias.zero_()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        places = nn.functional.adaptive_avg_pool2d(pixels, 4)
        vector: Tensor = self.mix(places.flatten(1))
        return vector, places


def small(name: str) -> DistillConfig:
    config: DistillConfig = shrink(distill_config(name)(), SIZES | {"queue_size": 40})
    return config


FLAT = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
DENSE = replace(small("simreg"), dense_weight=1.0)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of our own, to be a teacher."""
    method: MethodConfig = shrink(method_config("simclr")(), SIZES)
    out = tmp_path_factory.mktemp("teacher") / "big"
    return pretrain(
        images(), out, method=method, backbone=STUDENT, training=replace(TRAIN, epochs=1), say=lambda text: None
    )


def teach(out: Path, teacher: TeacherConfig = OWN, **given: Any) -> list[str]:
    said: list[str] = []
    settings: dict[str, Any] = {"student": STUDENT, "training": TRAIN, "teacher_module": Quarters(), "say": said.append}
    distill(images(), out, teacher=teacher, **(settings | given))
    return said


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "encoder" / "model.safetensors")


def columns(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize("cached_views", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_teaches_live_and_from_kept_answers(tmp_path: Path, name: str, cached_views: int) -> None:
    teach(tmp_path / "run", replace(OWN, cached_views=cached_views), method=small(name))
    assert len(columns(tmp_path / "run", "loss")) == 2
    assert load(tmp_path / "run").dim == 8
    config = read_config(tmp_path / "run")
    assert config.teacher is not None
    assert (len(config.teacher.digest), config.teacher.val_images) == (64, 10)
    state = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["method"]
    assert not [key for key in state if "mix" in key]


def test_kept_answers_teach_what_live_ones_do(tmp_path: Path) -> None:
    """One epoch sees the first draw, whichever way; what is kept differs by the rounding of float16."""
    for cached_views in (0, 1):
        teach(tmp_path / str(cached_views), replace(OWN, cached_views=cached_views), training=replace(TRAIN, epochs=1))
    live, kept = (weights(tmp_path / str(cached_views)) for cached_views in (0, 1))
    for name, value in live.items():
        torch.testing.assert_close(kept[name].float(), value.float(), rtol=0, atol=5e-3)
    assert not all(torch.equal(kept[name], value) for name, value in live.items())


def test_the_student_comes_to_see_what_the_teacher_sees(tmp_path: Path) -> None:
    train = replace(TRAIN, epochs=15, eval_every_epochs=15)
    said = teach(tmp_path / "run", replace(OWN, val_images=20), training=train, optim=OptimConfig(lr=0.02))
    kept = columns(tmp_path / "run", "neighbor_agreement")[-1]
    assert said[-1].startswith(
        f"keeps {kept:.0%} of the teacher's 10 nearest neighbours on 20 images that were held out"
    )
    assert "(chance: 52.6%)" in said[-1]
    assert kept > 0.62
    losses = columns(tmp_path / "run", "loss")
    assert losses[-1] < 0.7 * losses[0]


def test_images_that_are_held_out_are_not_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("limbeck.runs.api.train_method", lambda *args, **given: seen.update(given))
    monkeypatch.setattr("limbeck.runs.api.evaluate_encoder", lambda *args: {})
    teach(tmp_path / "run", replace(OWN, val_images=30), method=small("bingo"))
    sampling = seen["sampling"]
    assert len(sampling.indices) == 70
    assert set(sampling.bags[sampling.indices].ravel()) <= set(sampling.indices)
    assert (sampling.bags[sampling.indices] != sampling.indices[:, None]).all()


@pytest.mark.parametrize("max_similarity", [None, 0.999])
def test_copies_are_mates_unless_they_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_similarity: float | None
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("limbeck.runs.api.train_method", lambda *args, **given: seen.update(given))
    monkeypatch.setattr("limbeck.runs.api.evaluate_encoder", lambda *args: {})
    twice = np.concatenate([images()[0][:50]] * 2)
    method = replace(small("bingo"), bag_size=1, max_similarity=max_similarity)
    said: list[str] = []
    given: dict[str, Any] = {"method": method, "student": STUDENT, "training": TRAIN, "teacher_module": Quarters()}
    distill(twice, tmp_path / "run", teacher=replace(OWN, val_images=0), say=said.append, **given)
    copied = (seen["sampling"].bags[:, 0] - np.arange(100)) % 100 == 50
    assert copied.all() if max_similarity is None else not copied.any()
    assert any("--method.max-similarity 0.999" in sentence for sentence in said) == (max_similarity is None)


@pytest.mark.parametrize("cached_views", [0, 2])
def test_a_stopped_run_goes_on_to_the_same_numbers(
    tmp_path: Path, big: Path, monkeypatch: pytest.MonkeyPatch, cached_views: int
) -> None:
    """From a store on a disk, with a teacher that the run loads again."""
    np.savez(tmp_path / "digits.npz", images=images()[0], labels=images()[1])
    teacher = TeacherConfig(name=str(big), cached_views=cached_views)
    given: dict[str, Any] = {"teacher": teacher, "method": small("bingo"), "student": STUDENT, "training": TRAIN}
    distill(tmp_path / "digits.npz", tmp_path / "whole", **given)

    def stop(*args: Any) -> dict[str, float]:
        import signal

        signal.raise_signal(signal.SIGTERM)
        return {}

    with monkeypatch.context() as patched:
        patched.setattr("limbeck.train.loop.evaluate_encoder", stop)
        with pytest.raises(Interrupted):
            distill(tmp_path / "digits.npz", tmp_path / "stopped", **given)
    resume(tmp_path / "stopped")
    whole, resumed = (weights(tmp_path / name) for name in ("whole", "stopped"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_resumes_with_its_own_teacher_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", images=images()[0])
    given: dict[str, Any] = {"student": STUDENT, "training": TRAIN}
    distill(tmp_path / "digits.npz", tmp_path / "run", teacher=OWN, teacher_module=Quarters(), **given)
    resume(tmp_path / "run", teacher_module=Quarters())
    with pytest.raises(UserError, match="is not the network that it was"):
        resume(tmp_path / "run", teacher_module=Quarters(seed=1))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"teacher": replace(OWN, cached_views=1), "method": DENSE}, "kept answers have no maps"),
        ({"teacher_module": FLAT, "method": DENSE}, "mine has no maps for a dense term"),
        ({"teacher": replace(OWN, val_images=COUNT)}, "teacher.val_images is 100 and the store has 100 images"),
        ({"teacher": replace(OWN, mean=None)}, "mean"),
        ({"teacher": replace(OWN, val_images=90)}, "batch size 20 .* 10"),
        ({"method": method_config("simclr")()}, "simclr learns without a teacher: use `limbeck pretrain"),
        ({"method": replace(small("bingo"), bag_size=COUNT)}, "bag_size"),
        (
            {"method": replace(small("seed"), queue_size=COUNT + 1)},
            "a queue of 101 rows is larger than the store of 90",
        ),
    ],
)
def test_mistakes_are_said_before_anything_is_trained(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        teach(tmp_path / "run", **({"teacher": OWN} | given))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_knows_its_teacher_from_any_folder(big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(big.parent)
    np.savez(tmp_path / "digits.npz", images=images()[0])
    given: dict[str, Any] = {"student": STUDENT, "training": replace(TRAIN, epochs=1)}
    distill(tmp_path / "digits.npz", tmp_path / "run", teacher=big.name, **given)
    teacher = read_config(tmp_path / "run").teacher
    assert teacher is not None
    assert teacher.name == str(big)
    monkeypatch.chdir(tmp_path)
    resume(tmp_path / "run")


def test_a_cache_of_another_store_is_refused(tmp_path: Path) -> None:
    kept = replace(OWN, cached_views=1, cache=str(tmp_path / "cache"))
    teach(tmp_path / "first", kept)
    with pytest.raises(UserError, match="keeps the answers of another teacher"):
        teach(tmp_path / "second", kept, teacher_module=Quarters(seed=1))


def test_answers_that_depend_on_the_batch_are_not_kept() -> None:
    with pytest.raises(UserError, match="batch_statistics make an answer depend on what it comes together with"):
        replace(OWN, cached_views=1, batch_statistics=True)


def test_a_larger_student_is_warned_of(tmp_path: Path) -> None:
    said = teach(tmp_path / "run")
    assert any("distillation is made for smaller students" in sentence for sentence in said)


def test_the_command_line_distils(limbeck: Run, big: Path, tmp_path: Path) -> None:
    pixels, labels = images()
    np.savez(tmp_path / "digits.npz", images=pixels, labels=labels)
    words = f"distill {tmp_path}/digits.npz --teacher {big} --student resnet18 --method compress"
    flags = ["--student.args", json.dumps(SMALL), "--epochs", "1", "--batch-size", "20", "--method.queue-size", "40"]
    code, out, told = limbeck(*words.split(), *flags, "--teacher.val-images", "20", "--out", tmp_path / "run")
    assert (code, out.strip()) == (0, str(tmp_path / "run")), told
    assert "compress has temperature" in told
    assert "the teacher's answers spread over 8 of 79 other images" in told
    assert "on 20 images that were held out (chance: " in told
    assert limbeck("distill", tmp_path / "digits.npz") == (
        1,
        "",
        "limbeck: distillation needs a teacher: say --teacher with a timm model or a folder\n",
    )
