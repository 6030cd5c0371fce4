"""`--config` and `--print-config`: the file's values are defaults, flags win, unknown keys get the nearest name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.commands import Run

Write = Callable[..., Path]
VIT = {"patch_size": 7, "embed_dim": 32, "depth": 3, "num_heads": 2}


@pytest.fixture
def write(tmp_path: Path, trained: Path) -> Write:
    """Write a configuration file over the store of the trained run."""

    def write(name: str = "config.json", **content: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({"store": str(trained.parent / "store"), **content}))
        return path

    return write


def resolved(limbeck: Run, *words: str | Path) -> Any:
    code, out, err = limbeck(*words, "--print-config")
    assert code == 0, err
    return json.loads(out)


def test_the_configuration_of_a_run_repeats_it(limbeck: Run, trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert resolved(limbeck, "pretrain", "--config", trained / "config.json") == config
    again = trained.parent / "again"
    code, out, _ = limbeck("pretrain", "--config", trained / "config.json", "--out", again, "--json")
    assert code == 0
    assert json.loads((again / "config.json").read_text()) == config
    weights = [(run / "encoder" / "model.safetensors").read_bytes() for run in (trained, again)]
    assert weights[0] == weights[1]
    assert json.loads(out)["last"]["step"] == 10


def test_print_config_trains_nothing(
    limbeck: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolved(limbeck, "pretrain", trained.parent / "store", "--method", "byol", "--batch-size", "32")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "section", "expected"),
    [
        (("--backbone.patch-filters", "0"), "backbone", {"patch_filters": 0}),
        (("--optim=lars",), "optim", {"name": "lars"}),
        (("--optim.lr=0.3",), "optim", {"lr": 0.3}),
    ],
)
def test_a_flag_that_repeats_a_default_is_no_default(
    limbeck: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    section: str,
    expected: dict[str, Any],
) -> None:
    """What a run without names takes is chosen for the machine, unless a flag says otherwise."""
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (300, 32, 32, 3), np.uint8))
    flags = ("--accelerator", "cpu", "--epochs", "1")
    found = resolved(limbeck, "pretrain", tmp_path / "images.npy", *flags, *words)
    assert {name: found[section][name] for name in expected} == expected


def test_flags_win_over_the_file_and_the_file_over_defaults(limbeck: Run, write: Write) -> None:
    file = write(
        method={"name": "simclr", "temperature": 0.3, "hidden": 32},
        backbone={"name": "vit_tiny_patch16_224", "args": VIT},
        optim={"name": "sgd", "lr": 0.01},
        training={"epochs": 7, "batch_size": 32},
    )
    config = resolved(limbeck, "pretrain", "--config", file, "--method.temperature", "0.4", "--epochs", "3")
    assert config["method"] | {"name": "simclr", "temperature": 0.4, "hidden": 32} == config["method"]
    assert config["backbone"]["args"] == VIT
    assert config["training"] | {"epochs": 3.0, "batch_size": 32} == config["training"]
    assert config["optim"] | {"name": "sgd", "lr": 0.01, "weight_decay": 0.1} == config["optim"]


def test_a_section_about_another_method_or_network_does_not_apply(limbeck: Run, write: Write) -> None:
    file = write(
        method={"name": "sdssl", "hidden": 32, "host": {"name": "simclr", "hidden": 48}},
        backbone={"name": "vit_tiny_patch16_224", "args": VIT},
        training={"batch_size": 32},
    )
    code, out, err = limbeck(
        "pretrain", "--config", file, "--print-config", "--method", "byol", "--backbone", "resnet18"
    )
    assert code == 0
    assert json.loads(out)["method"]["hidden"] != 32
    assert json.loads(out)["backbone"]["args"] == {}
    assert "sdssl" in err
    assert "vit_tiny_patch16_224" in err
    method = resolved(limbeck, "pretrain", "--config", file, "--method.host", "byol")["method"]
    assert (method["hidden"], method["host"]["name"]) == (32, "byol")
    assert method["host"]["hidden"] != 48


def test_yaml_is_read_with_its_numbers(limbeck: Run, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        f"store: {trained.parent / 'store'}\nmethod: {{name: byol}}\noptim:\n  lr: 1e-3\ntraining: {{batch_size: 32}}\n"
    )
    config = resolved(limbeck, "pretrain", "--config", file)
    assert (config["method"]["name"], config["optim"]["lr"]) == ("byol", 0.001)


def test_a_distillation_is_configured_with_the_same_keys(limbeck: Run, trained: Path, write: Write) -> None:
    file = write(
        method={"name": "simreg"},
        teacher={"name": str(trained), "val_images": 20},
        backbone={"name": "resnet18", "args": {"channels": [8, 8, 8, 8]}},
        training={"batch_size": 32},
    )
    config = resolved(limbeck, "distill", "--config", file, "--student.image-size", "32")
    assert config["backbone"] | {"image_size": 32, "args": {"channels": [8, 8, 8, 8]}} == config["backbone"]
    assert config["teacher"]["val_images"] == 20
    assert resolved(limbeck, "distill", "--config", file, "--teacher.val-images", "30")["teacher"]["val_images"] == 30


@pytest.mark.parametrize(
    ("content", "code", "value"),
    [
        ({"metod": {"name": "byol"}}, "unknown-key", "'metod' (did you mean 'method'?)"),
        ({"method": {"name": "byol", "hiden": 3}}, "unknown-key", "'hiden' (did you mean 'hidden'?)"),
        ({"training": {"epochs": "many"}}, "wrong-type", "'many'"),
        ({"method": {"name": "byoll"}}, "unknown-method", "'byoll' (did you mean 'byol'?)"),
        ({"store": 3}, "wrong-type", "3"),
        ({"store": ""}, "no-source", ""),
        ({"digest": "0" * 32}, "store-changed", "store"),
        ({"teacher": {"name": "runs/big"}}, "is-distillation", "limbeck distill"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_in_the_file_is_named(
    limbeck: Run, write: Write, content: dict[str, Any], code: str, value: str
) -> None:
    status, out, _ = limbeck("pretrain", "--config", write(**content), "--print-config", "--json")
    assert status == (2 if code == "no-source" else 1)
    error = json.loads(out)["error"]
    assert error["code"] == code
    assert value in error["message"]


@pytest.mark.parametrize("text", ["{", "- a\n- b\n", "a: [", "\x00"])
def test_a_file_without_keys_is_refused(limbeck: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    status, out, _ = limbeck("pretrain", "--config", file, "--json")
    assert status == 1
    assert str(file) in json.loads(out)["error"]["message"]
    assert limbeck("pretrain", "--config", tmp_path / "none.yaml")[0] == 1


def test_a_file_that_is_missing_and_a_key_without_a_similar_one(limbeck: Run, write: Write, tmp_path: Path) -> None:
    status, _, err = limbeck("pretrain", "--config", tmp_path / "none.json", "--verbose")
    assert (status, "[not-readable]" in err) == (1, True)
    status, _, err = limbeck("pretrain", "--config", write(epochs=3), "--verbose")
    assert (status, "[unknown-key]" in err) == (1, True)
    assert [word for word in ("'epochs'", "training", "--print-config") if word not in err] == []
    status, _, err = limbeck("pretrain", "--config", write(training={"zzz": 3}), "--verbose")
    assert (status, "'zzz'" in err, "batch_size" in err) == (1, True, True)
