"""Fine-tuning: a classifier beside frozen features, that is continued by the same command to the same bits."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import limbeck as library
from limbeck.classification.saved import load_classifier
from limbeck.core.run_folder import CONFIG, ENCODER, FINETUNING
from limbeck.train.step import StepRunner
from tests.helpers.commands import Run
from tests.helpers.errors import raises


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache-of-finetuning"))


def words(start: Path, photos: Path, out: Path, *more: str) -> list[str | Path]:
    return [
        "finetune",
        start,
        "--train",
        photos / "train",
        "--test",
        photos / "test",
        "--labels",
        "0.3",
        "--epochs",
        "4",
        "--batch-size",
        "16",
        "--out",
        out,
        *more,
    ]


def weights(run: Path) -> dict[str, Any]:
    return load_file(run / ENCODER / "model.safetensors") | load_file(run / "head.safetensors")


def test_a_run_is_a_classifier_with_the_frozen_line_beside_it(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path
) -> None:
    code, printed, err = limbeck(*words(trained, photos, tmp_path / "run", "--json"))
    assert code == 0, err
    found = json.loads(printed)
    assert found == json.loads((tmp_path / "run" / FINETUNING).read_text())
    assert (found["labels"], found["classes"], found["test_images"]) == (50, 10, 80)
    assert found["stderr"] == pytest.approx(np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 80))
    about = load_classifier(tmp_path / "run").about
    assert (about.accuracy, about.held_out, about.rows) == (found["accuracy"], 80, 50)
    assert library.predict(tmp_path / "run", photos / "test").accuracy == pytest.approx(found["accuracy"])
    config = json.loads((tmp_path / "run" / CONFIG).read_text())
    assert config["method"]["label_share"] == 0.3
    assert config["optim"]["milestone_epochs"] == pytest.approx([2.4, 3.2])
    moved = weights(tmp_path / "run")["blocks.0.attn.qkv.weight"]
    assert not moved.equal(load_file(trained / ENCODER / "model.safetensors")["blocks.0.attn.qkv.weight"])


def test_the_same_command_continues_to_the_same_bits(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limbeck(*words(trained, photos, tmp_path / "whole"))[0] == 0
    step, taken = StepRunner.train_step, list[int]()

    def stop_after_five(self: StepRunner, *args: Any, **options: Any) -> Any:
        if len(taken) == 5:
            raise KeyboardInterrupt
        taken.append(len(taken))
        return step(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(StepRunner, "train_step", stop_after_five)
        assert limbeck(*words(trained, photos, tmp_path / "parts", "--checkpoint-every-minutes", "0"))[0] == 130
    assert not (tmp_path / "parts" / FINETUNING).exists()
    assert limbeck(*words(trained, photos, tmp_path / "parts", "--checkpoint-every-minutes", "0"))[0] == 0
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(whole[name].equal(parts[name]) for name in whole)
    code, _, err = limbeck(*words(trained, photos, tmp_path / "parts", "--seed", "1"))
    assert code == 1
    assert "parts" in err


def test_the_head_alone_at_a_depth(trained: Path, photos: Path, tmp_path: Path) -> None:
    training = library.TrainConfig(epochs=1, batch_size=32)
    out = tmp_path / "run"
    found = library.finetune(trained, photos / "train", photos / "test", out, layers="head", depth=2, training=training)
    assert found.labels == 160
    frozen, ours = load_file(trained / ENCODER / "model.safetensors"), load_file(out / ENCODER / "model.safetensors")
    assert "blocks.2.norm1.weight" not in ours
    assert all(frozen[name].equal(ours[name]) for name in ours)
    assert library.export(out, tmp_path / "timm").dim == 10


def test_mistakes_are_found_before_any_work(trained: Path, photos: Path, tmp_path: Path) -> None:
    train, test = photos / "train", photos / "test"
    with raises("start-without-network", "w.pth"):
        library.finetune("w.pth", train, test, tmp_path / "run")
    with raises("value-out-of-range", 2):
        library.finetune(trained, train, test, tmp_path / "run", labels=2)
    with raises("one-process", 2):
        library.finetune(trained, train, test, tmp_path / "run", training=library.TrainConfig(devices=2))
    with raises("depth-out-of-range", 9):
        library.finetune(trained, train, test, tmp_path / "run", depth=9)
    for digit in "45":
        shutil.copytree(test / digit, tmp_path / "two" / digit)
    with raises("images-not-labeled", "4"):
        library.finetune(trained, test / "4", test, tmp_path / "run")
    with raises("labels-differ", "'0'"):
        library.finetune(trained, tmp_path / "two", test, tmp_path / "run")
    assert not (tmp_path / "run").exists()
