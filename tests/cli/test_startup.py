"""What is not imported before it is needed: no torch for a help or a mistake, no report for a first step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck import cli
from limbeck.methods import method_config, method_names
from limbeck.modalities.images.sizes import SMALL_NETWORK, STUDENT
from limbeck.models.config import BackboneConfig
from limbeck.models.surgery import is_vit
from limbeck.runs.defaults import USUAL_NETWORKS
from tests.helpers.commands import TINY

HEAVY = {"torch", "timm", "numpy", "pyarrow", "PIL", "jaxtyping", "jinja2", "lightning_fabric", "huggingface_hub"}
NOT_FOR_A_STEP = {"torchmetrics", "scipy", "sklearn", "matplotlib", "transformers", "datasets", "jinja2", "onnx"}
COMMANDS = """
import contextlib, json, sys
from limbeck.cli import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
        main(words)
print(json.dumps(sorted(sys.modules)))
"""


def imported(*commands: list[str]) -> set[str]:
    """Return every module that a process has imported after some commands."""
    call = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_helps_mistakes_and_tables_need_no_torch(tmp_path: Path) -> None:
    helps = [[verb, form] for verb in cli.VERBS for form in ("--help", "--help-all")]
    methods = [["pretrain", "--method", name, "--help"] for name in method_names()]
    others = [
        ["--help"],
        ["--version"],
        ["methods"],
        ["recipes"],
        ["recipes", "laptop"],
        ["completion", "bash"],
        ["pretrain", "photos", "--bogus", "1"],
    ]
    found = imported(*helps, *methods, *others)
    assert "limbeck.methods.config.byol" in found
    assert not HEAVY & found
    assert not {"torch", "timm", "PIL"} & imported(["runs", str(tmp_path)])


@pytest.mark.slow
def test_a_first_step_imports_nothing_that_only_other_commands_need(photos: Path, tmp_path: Path) -> None:
    found = imported(["pretrain", str(photos / "train"), "--out", str(tmp_path / "run"), *TINY, "--epochs", "0.01"])
    assert (tmp_path / "run" / "encoder").is_dir()
    assert not NOT_FOR_A_STEP & found


def test_the_usual_networks_are_known_as_timm_knows_them() -> None:
    assert set(USUAL_NETWORKS) == {BackboneConfig().name, SMALL_NETWORK, STUDENT}
    assert {name: not is_vit(name) for name in USUAL_NETWORKS} == USUAL_NETWORKS


@pytest.mark.parametrize("name", method_names())
def test_options_and_method_have_one_name(name: str) -> None:
    assert method_config(name).__module__ == f"limbeck.methods.config.{name}"
