"""`limbeck completion SHELL`: a script that completes commands and flags."""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import tyro

from limbeck.cli.arguments import annotated, tyro_rules, with_output
from limbeck.cli.command import Command, Output

GROUP = "Help"
_FOUND = "get_completions(words, current_index, COMPLETION_SPEC)"
"""Call in tyro's scripts that completes commands and flags; where it finds nothing, ours complete file names."""


@dataclass(frozen=True, kw_only=True)
class CompletionArgs:
    """Arguments of `limbeck completion`."""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """Shell that reads the script."""


def completion_command(verbs: Mapping[str, Command]) -> Command:
    """Return the command; `verbs` is read when it runs."""
    return Command(
        GROUP,
        """Print a script that completes commands and flags in a shell.

Examples:
  limbeck completion bash > ~/.local/share/bash-completion/completions/limbeck
  limbeck completion zsh > "${fpath[1]}/_limbeck"
  limbeck completion fish > ~/.config/fish/completions/limbeck.fish""",
        lambda argv: CompletionArgs,
        lambda args: _completion(args.shell, verbs),
    )


def _completion(shell: str, verbs: Mapping[str, Command]) -> Output:
    script = _script(shell, verbs)
    return Output({"shell": shell, "script": script}, [script])


def _script(shell: str, verbs: Mapping[str, Command]) -> str:
    """Return tyro's completion script for all commands, with the flags of their default methods and networks."""
    commands: Any = reduce(
        or_,
        (
            annotated(with_output(command.arguments(())), tyro.conf.subcommand(verb, description=command.summary))
            for verb, command in verbs.items()
        ),
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(commands, prog="limbeck", args=["--tyro-print-completion", shell], registry=tyro_rules())
    script = printed.getvalue().replace(_FOUND, f"{_FOUND} or ['__TYRO_COMPLETE_FILES__']")
    return script.replace("complete -F", "complete -o default -F")  # bash: readline completes the files
