"""`limbeck completion`: commands, flags, choices and files are completed by the script of bash."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from limbeck import cli
from tests.helpers.commands import Run

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the script for bash."""
    path = tmp_path_factory.mktemp("completion") / "limbeck.bash"
    printed = cli.VERBS["completion"].run(cli.completion.CompletionArgs(shell="bash"))
    path.write_text(printed.text[0])
    return path


def complete(script: Path, *words: str) -> set[str]:
    """Return what bash offers for the last of the words."""
    line = " ".join(words)
    commands = f"""
        source {script}
        COMP_WORDS=({line}{" ''" if not words[-1] else ""}); COMP_CWORD={len(words) - 1}
        COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
        _tyro_limbeck limbeck '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@needs_bash
def test_commands_flags_and_choices_are_completed(script: Path) -> None:
    assert complete(script, "limbeck", "") >= {*cli.VERBS}
    assert complete(script, "limbeck", "pret") == {"pretrain"}
    assert complete(script, "limbeck", "pretrain", "--epo") == {"--epochs"}
    assert complete(script, "limbeck", "export", "a", "--format", "") == {"timm", "onnx", "torch", "executorch"}


@needs_bash
def test_anything_else_is_left_to_the_file_names(script: Path) -> None:
    assert complete(script, "limbeck", "check", "no-such-flag") == set()
    assert re.search(r"complete -o default -F \w+ limbeck", script.read_text())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_too(limbeck: Run, shell: str) -> None:
    code, out, _ = limbeck("completion", shell)
    assert code == 0
    assert "--eval-every-epochs" in out
    assert "or ['__TYRO_COMPLETE_FILES__']" in out
    assert limbeck("completion", "cmd")[0] == 2
