"""The command line: each verb is one function call that returns one result.

Exit status: 0 done; 1 the data, a run or a setting is wrong; 2 the command line is wrong; 3 an unexpected error, whose
traceback is in a file; 128 + the signal's number when stopped on request (130 for Ctrl-C).
"""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, groupby, repeat
from typing import NoReturn

from limbeck.cli import (
    arguments,
    data,
    episodes,
    export,
    finetune,
    images,
    labels,
    outliers,
    overview,
    push,
    results,
    search,
    training,
)
from limbeck.cli.arguments import has_flag
from limbeck.cli.command import Command, Output, UsageError
from limbeck.cli.completion import completion_command
from limbeck.cli.flags import list_flags
from limbeck.cli.help import full_help, short_help
from limbeck.cli.output import USAGE, as_failure, show, show_failure
from limbeck.cli.signals import stop_signals
from limbeck.cli.unknown import check_flags
from limbeck.cli.words import check_words
from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.logs import configure

logger = logging.getLogger(__name__)

__all__ = ["VERBS", "Command", "Output", "UsageError", "main"]

VERBS: dict[str, Command] = {
    "check": data.CHECK,
    "store": data.STORE,
    "methods": training.METHODS,
    "recipes": training.RECIPES_COMMAND,
    "plan": training.PLAN,
    "pretrain": training.PRETRAIN,
    "distill": training.DISTILL,
    "adapt": training.ADAPT,
    "resume": training.RESUME,
    "evaluate": results.EVALUATE,
    "compare": results.COMPARE,
    "episodes": episodes.EPISODES,
    "runs": overview.RUNS,
    "report": results.REPORT,
    "export": export.EXPORT,
    "push": push.PUSH,
    "explore": images.EXPLORE,
    "embed": images.EMBED,
    "index": search.INDEX,
    "search": search.SEARCH,
    "outliers": outliers.OUTLIERS,
    "demo": results.DEMO,
    "select": labels.SELECT,
    "classify": labels.CLASSIFY,
    "predict": labels.PREDICT,
    "finetune": finetune.FINETUNE,
}
VERBS["completion"] = completion_command(VERBS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exit unless it succeeds."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    try:
        with stop_signals():
            mistake = _run(words)
            sys.stdout.flush()  # here, since an error at the end of the process could not be reported
    except BrokenPipeError:  # the reader of stdout, such as `head`, has gone
        _discard_output()
        sys.exit(141)
    except (Exception, KeyboardInterrupt) as error:
        _fail(error, words, as_json=has_flag(words, "--json"))
    if mistake:
        _fail(mistake, words, as_json=False)  # the object on stdout holds it already


def _fail(error: BaseException, words: list[str], *, as_json: bool) -> NoReturn:
    failure, verbose = as_failure(error, words), has_flag(words, "-v", "--verbose")
    try:
        if verbose and failure.traceback_file:
            traceback.print_exception(error)
        show_failure(failure, as_json=as_json, verbose=verbose)
        sys.stdout.flush()
    except OSError:  # the reader of stderr has gone as well
        _discard_output()
    sys.exit(failure.status)


def _open_closed_streams() -> None:
    """Let streams that are closed (`>&-`) lead nowhere, so that no file of ours gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # which gets the lowest number that is free
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", encoding="utf-8"))


def _discard_output() -> None:
    """Send what is left to be printed nowhere, so that the interpreter ends in silence."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


def _run(words: list[str]) -> UserError | None:
    """Carry out a command, and return the mistake that its printed result shows."""
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        if not words:
            sys.exit(USAGE)
        return None
    if words[0] == "--version":
        print(f"limbeck {_version()}")
        return None
    verb, *argv = words
    if verb not in VERBS:
        hint = did_you_mean(verb, [*VERBS, "help"])
        raise UsageError(f"unknown command '{verb}'{hint}; `limbeck help` lists them", code="unknown-command")
    _configure_logging(argv)
    command = VERBS[verb]
    kind = arguments.with_output(command.arguments(argv))
    flags = list_flags(kind)
    if has_flag(argv, "--help-all"):
        print(full_help(verb, command.help, flags))
        return None
    if has_flag(argv, "-h", "--help"):
        print(short_help(verb, command.help, flags, command.essential, argv))
        return None
    check_flags(argv, flags, verb)
    check_words(argv, flags, verb)
    args, output = arguments.parse(kind, argv, verb)
    result = command.run(args)
    show(result, as_json=output.json)
    if result.next_commands and not output.json:
        for start, command_line in zip(chain(["next: "], repeat("      ")), result.next_commands, strict=False):
            logger.info("%s%s", start, command_line)
    return result.error


def _configure_logging(argv: Sequence[str]) -> None:
    """Choose the level of messages before anything is parsed, so that parsing can log as well."""
    verbose, quiet = has_flag(argv, "-v", "--verbose"), has_flag(argv, "-q", "--quiet")
    configure(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


def _version() -> str:
    from limbeck import __version__

    return __version__


def _usage() -> str:
    """Return the help of the whole command line, with the verbs by group."""
    lines = [
        "usage: limbeck COMMAND [OPTIONS]",
        "",
        "Turn unlabeled images into a small, strong vision backbone.",
    ]
    for group, verbs in groupby(VERBS.items(), key=lambda item: item[1].group):
        lines += ["", f"{group}:", *(f"  {verb:10}  {command.summary}" for verb, command in verbs)]
    lines += [
        "  help        Explain a command: `limbeck help COMMAND` is `limbeck COMMAND --help`",
        "",
        "Every command takes --help, --help-all, --json, --quiet and --verbose.",
    ]
    return "\n".join(lines)
