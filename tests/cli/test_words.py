"""Words of a command line that cannot be: one sentence with the option, its value and what it takes; exit status 2."""

import os
from pathlib import Path

import pytest

from tests.helpers.commands import Run

WRONG = [
    ("pretrain x --epochs abc", ("--epochs", "abc", "auto", "number")),
    ("pretrain x --epochs=", ("--epochs", "number")),
    ("pretrain x --precision bf17", ("--precision", "bf17", "'bf16'", "fp32")),
    ("pretrain x --batch-size -3", ("--batch-size", "-3", "1")),
    ("pretrain x --batch_size 2.5", ("--batch-size", "2.5", "whole number")),
    ("pretrain x --batch-size", ("--batch-size", "whole number")),
    ("pretrain x --batch-size --quick", ("--batch-size", "whole number")),
    ("pretrain x --batch -3", ("--batch", "--batch-size")),
    ("pretrain x -b 3", ("-b",)),
    ("pretrain x --quick yes", ("yes",)),
    ("pretrain x --quick=yes", ("--quick", "yes")),
    ("pretrain x --seed 1e3", ("--seed", "1e3", "whole number")),
    ("pretrain x --loggers tensorbord", ("--loggers", "tensorbord", "'tensorboard'")),
    ("pretrain x --accelerator gpu", ("--accelerator", "gpu", "cuda")),
    ("pretrain x --optim sdg", ("--optim", "sdg", "'sgd'")),
    ("pretrain x --optim.lr fast", ("--optim.lr", "fast", "number")),
    ("pretrain x --optim.betas 0.9", ("--optim.betas", "2 values", "0.9")),
    ("pretrain x --backbone.args {", ("--backbone.args", "JSON")),
    ("pretrain x --backbone.args [1]", ("--backbone.args", "[1]", "JSON")),
    ("pretrain x --backbone.image-size large", ("--backbone.image-size", "large", "whole number")),
    ("pretrain x --method simclr --method.temperature warm", ("--method.temperature", "warm", "number")),
    ("pretrain x y", ("'y'",)),
    ("pretrain my photos --quick", ("'photos'", "quote")),
    ("pretrain x --epochs 3 5", ("'5'",)),
    ("pretrain x --store-size 1.0", ("--store-size", "1.0")),
    ("pretrain x --allow-bad much", ("--allow-bad", "much", "number")),
    ("pretrain", ("no images",)),
    ("plan x --devices two", ("--devices", "two")),
    ("plan x --warmup-epochs soon", ("--warmup-epochs", "soon", "None")),
    ("distill x", ("--teacher",)),
    ("distill x --teacher resnet18 --teacher.mean 0.5", ("--teacher.mean", "3 values", "0.5")),
    ("distill x --teacher resnet18 --teacher.depth deep", ("--teacher.depth", "deep")),
    ("check", ("SOURCE",)),
    ("check x --workers many", ("--workers", "many")),
    ("check x --leave-out tinny", ("--leave-out", "tinny", "'tiny'")),
    ("check --exclude a b", ("SOURCE", "--exclude", "last")),
    ("store x", ("OUT",)),
    ("store x y --depth deep", ("--depth", "deep", "distance, inverse or None")),
    ("store x y z", ("'z'",)),
    ("evaluate", ("NETWORK",)),
    ("evaluate run --train a", ("--test", "labeled")),
    ("evaluate run --forecast 4", ("--train", "series", "--forecast")),
    ("evaluate run --train a --test b --k 1.5", ("--k", "1.5")),
    ("evaluate run --train a --test b --linear maybe", ("--linear", "maybe", "none")),
    ("evaluate run --train a --test b --linear-lr slow", ("--linear-lr", "slow")),
    ("export run", ("OUT",)),
    ("export run out --depth N", ("--depth", "N", "whole number")),
    ("export run out --format onxx", ("--format", "onxx", "'onnx'")),
    ("report", ("RUN",)),
    ("report run --outt page.html", ("--outt", "--out")),
    ("runs a b", ("'b'",)),
    ("demo --epochs few", ("--epochs", "few")),
    ("resume", ("RUN",)),
    ("resume run --precision half", ("--precision", "half", "bf16")),
    ("resume run --devices 0.5", ("--devices", "0.5")),
    ("methods simclr", ("'simclr'",)),
    ("methods --markdow", ("--markdow", "--markdown")),
    ("completion tcsh", ("tcsh", "bash")),
    ("completion", ("bash",)),
    ("evalute x", ("evalute", "'evaluate'")),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=lambda value: str(value)[:60])
def test_one_sentence_says_what_is_wrong(
    limbeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = limbeck(*line.split())
    assert code == 2, err
    assert out == ""
    assert err.startswith("limbeck: ")
    assert err.count("\n") == 1
    assert [word for word in words if word not in err] == []
    assert os.listdir(tmp_path) == []


RIGHT = [
    "--warmup-epochs None",
    "--warmup-epochs 0",
    "--epochs=3",
    "--epochs .5",
    "--optim.betas 0.9 0.99",
    "--loggers tensorboard",
    "--method.views byol",
    "--no-stop-on-collapse",
    "--out -",
    "--exclude a b --quick",
]


@pytest.mark.parametrize("words", RIGHT)
def test_what_may_be_typed_reaches_the_command(limbeck: Run, words: str) -> None:
    code, _, err = limbeck("pretrain", "nowhere", "--accelerator", "cpu", *words.split())
    assert code == 1
    assert "nowhere" in err


def test_arguments_of_a_network_need_its_name(limbeck: Run, tmp_path: Path) -> None:
    code, _, err = limbeck("pretrain", str(tmp_path), "--backbone.args", '{"depth": 3}')
    assert code == 2
    assert "--backbone NAME" in err
    code, _, err = limbeck("distill", str(tmp_path), "--teacher", "resnet18", "--student.cut", "2")
    assert code == 2
    assert "--student NAME" in err


@pytest.mark.parametrize(
    ("line", "way"),
    [
        ("pretrain a b", "ln -s {0}/a {0}/b "),
        ("pretrain a b c", "ln -s {0}/a {0}/b {0}/c "),
        ("store a b out", "ln -s {0}/a {0}/b "),
        ("check 1.tar 2.tar", "*.tar'"),
        ("pretrain 1.ts 2.ts", ".csv"),
    ],
)
def test_several_sources_are_told_how_they_become_one(
    limbeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, way: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    for name in ("1.tar", "2.tar", "1.ts", "2.ts"):
        (tmp_path / name).touch()
    code, _, err = limbeck(*line.split())
    assert code == 2
    assert way.format(tmp_path.resolve()) in err


def test_a_name_may_be_longer_than_a_file_system_takes(limbeck: Run, tmp_path: Path) -> None:
    code, _, err = limbeck("pretrain", "a" * 300)
    assert code == 1
    assert "shorter" in err
    code, _, err = limbeck("pretrain", str(tmp_path), "a" * 300)
    assert code == 2
    assert "a" * 300 in err
