"""The help of a command: one screen with the usual options, or with `--help-all` every option, by group."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from limbeck.cli.arguments import OutputArgs, peek
from limbeck.cli.flags import Flag, list_flags

NAMES = ("--method", "--method.host", "--backbone", "--teacher", "--student", "--optim")
"""Flags with names that decide which other flags there are."""
RESEARCH = frozenset(
    (
        "alpha", "alpha-schedule", "batch-statistics", "betas", "ema-schedule", "freeze-patch-embed",
        "gamma", "head-lr-scale", "init", "milestone-epochs", "per-layer-norm", "predictor-weight", "projector-layers",
        "sincos-positions", "stem-pool", "trailing-norm",
    )
)  # fmt: skip
"""Last parts of flags that repeat experiments of papers; their defaults are meant to stay."""
RESEARCH_TITLE = "For research (they repeat or vary a paper; the defaults suit nearly everyone)"
LEFT = 30  # columns of names and types
MIN_WIDTH, MAX_WIDTH = 60, 110


def short_help(verb: str, text: str, flags: Sequence[Flag], essential: Sequence[str], argv: Sequence[str]) -> str:
    """Return one screen: `text`, the positional arguments, and the flags `essential` (all, if that is empty).

    A name in `argv`, such as that of a method, adds the flags that it brings.
    """
    named = [name for name in NAMES if peek(argv, name)]
    shared = {flag.name: flag for flag in list_flags(OutputArgs)}
    common = [flag for name, flag in shared.items() if name != "--help-all"]
    own = [flag for flag in flags if flag.name not in shared]
    shown = [flag for flag in own if flag.positional or not essential or flag.name in essential]
    shown.sort(key=lambda flag: essential.index(flag.name) if flag.name in essential else -1)
    added = [flag for flag in own if f"--{flag.group}" in named and flag not in shown and not _for_research(flag)]
    lines = [usage(verb, flags), "", text, "", *_table(shown, brief=True)]
    lines += ["", *_table(added, brief=True)] if added else []
    lines += ["", f"Every command: {', '.join('/'.join((*f.aliases, f.name)) for f in common)}, -h/--help."]
    if len(shown) + len(added) < len(own):
        lines += [f"`limbeck {verb} --help-all` explains all {len(own)} options."]
    return "\n".join(lines)


def full_help(verb: str, text: str, flags: Sequence[Flag]) -> str:
    """Return every option with its whole description, by the configuration that it belongs to, research last."""
    lines = [usage(verb, flags), "", text]
    for title, members in groups(flags).items():
        lines += ["", f"{title}:", *_table(members)]
    return "\n".join(lines)


def groups(flags: Iterable[Flag]) -> dict[str, list[Flag]]:
    """Return the flags by title: the command's own, those of each configuration, those for research."""
    found: dict[str, list[Flag]] = {}
    for flag in sorted(flags, key=_for_research):
        title = RESEARCH_TITLE if _for_research(flag) else f"Options of --{flag.group}" if flag.group else "Options"
        found.setdefault(title, []).append(flag)
    return found


def usage(verb: str, flags: Iterable[Flag]) -> str:
    """Return the line with the positional arguments."""
    return " ".join(["usage: limbeck", verb, *(_positional(flag) for flag in flags if flag.positional), "[OPTIONS]"])


def _positional(flag: Flag) -> str:
    return flag.name if flag.required else f"[{flag.name}]"


def _for_research(flag: Flag) -> bool:
    return flag.name.rpartition(".")[2].removeprefix("no-") in RESEARCH and "." in flag.name


def _table(flags: Iterable[Flag], *, brief: bool = False) -> list[str]:
    width = max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size((80, 24)).columns))
    return [line for flag in flags for line in _row(flag, width, brief=brief)]


def _row(flag: Flag, width: int, *, brief: bool) -> list[str]:
    metavar, text = flag.metavar, _first_sentence(flag.help) if brief else flag.help
    if len(metavar) > LEFT:
        metavar, text = "NAME ..." if metavar.endswith("...") else "NAME", f"{text} One of {_choices(metavar)}."
    left = "  " + " ".join(filter(None, (", ".join((*flag.aliases, flag.name)), metavar)))
    if flag.default and flag.default not in text:
        text += f" [{flag.default}]"
    right = textwrap.wrap(text, width - LEFT - 1) or [""]
    if len(left) < LEFT:
        return [f"{left:{LEFT}}{right[0]}".rstrip(), *(" " * LEFT + line for line in right[1:])]
    return [left, *(" " * LEFT + line for line in right)]


def _choices(metavar: str) -> str:
    return metavar.removesuffix(" ...").strip("{}").replace(",", ", ")


def _first_sentence(text: str) -> str:
    """Return the first clause, with the default if that follows it; what is in parentheses stays whole."""
    text = re.split(r"(?:\. |; (?!by default|`limbeck))(?![^(]*\))", text, maxsplit=1)[0]
    return text if text.endswith(".") else f"{text}."
