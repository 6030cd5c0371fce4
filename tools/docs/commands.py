"""The page about the command line, made from the help texts and the flags of every command."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limbeck.cli.flags import Flag

INTRODUCTION = """# Commands

Made from the flags of this version. Names such as that of the method or the network decide which further options there
are: the tables show those of the defaults, `--help` after another name shows that name's, and every
[method](../methods/index.md) lists its own on its page. `--help`, `--json`, `--quiet` and `--verbose`, which every
command has, are on the page [Command line](../command-line.md).

"""


def page() -> str:
    """Return the page with all commands, in the order of `limbeck --help`."""
    from limbeck.cli import VERBS

    return INTRODUCTION + "\n".join(section(verb) for verb in VERBS)


def section(verb: str) -> str:
    """Return the section of one command: its usage, its help text, and a table for each group of options."""
    from limbeck.cli import VERBS
    from limbeck.cli.flags import list_flags
    from limbeck.cli.help import groups, usage

    command = VERBS[verb]
    flags = list_flags(command.arguments(()))
    parts = [f"## limbeck {verb}\n", f"```text\n{usage(verb, flags)}\n```\n", *paragraphs(command.help)]
    for title, members in groups(flags).items():
        parts += [f"### {title} {{ #{verb}-{re.sub('[^a-z]+', '-', title.lower()).strip('-')} }}\n", table(members)]
    return "\n".join(parts)


def paragraphs(text: str) -> Iterator[str]:
    """Yield prose as it is, and examples of commands as code."""
    for is_command, lines in groupby(text.strip().splitlines(), key=lambda line: line.strip().startswith("limbeck ")):
        block = "\n".join(line.strip() for line in lines).strip()
        if block:
            yield f"```bash\n{block}\n```\n" if is_command else f"{escaped(block)}\n"


def table(flags: Sequence["Flag"]) -> str:
    """Return a Markdown table with a row per flag."""
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *map(row, flags), ""])


def row(flag: "Flag") -> str:
    """Return the row of a flag."""
    names = ", ".join(f"`{name}`" for name in flag.spellings)
    values = f" `{flag.metavar}`" if flag.metavar else ""
    default = f"`{flag.default}`" if flag.default else ""
    return f"| {names}{values} | {default} | {escaped(flag.help)} |"


def escaped(text: str) -> str:
    """Escape a text in which only backticks are markup."""
    parts = text.split("`")
    return "`".join(re.sub(r"([*<\[|])", r"\\\1", part) if at % 2 == 0 else part for at, part in enumerate(parts))
