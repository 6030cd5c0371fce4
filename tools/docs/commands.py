"""The page about the command line, made from the `--help` of every command."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import groupby

WIDTH = 80  # columns of a terminal in which the boxes of the help stand below each other
COMMON = {"-h, --help", "--json"}
INTRODUCTION = """# Commands

Made from `limbeck COMMAND --help` of this version. Names such as that of the method or the network decide which
further options there are: the tables show those of the defaults, `--help` after another name shows that name's, and
every [method](../methods/index.md) lists its own on its page. `--help`, `--json`, `--quiet` and `--verbose`, which
every command has, are on the page [Command line](../command-line.md).

"""


def page() -> str:
    """Return the page with all commands, in the order of `limbeck --help`."""
    from limbeck.cli import VERBS

    return INTRODUCTION + "\n".join(section(verb, shown(verb)) for verb in VERBS)


def shown(*words: str) -> str:
    """Return what `limbeck WORDS --help` prints."""
    (script,) = entry_points(group="console_scripts", name="limbeck")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # without an encoding the boxes would be ASCII
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            script.load()([*words, "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    out.seek(0)
    return out.read()


def section(name: str, text: str) -> str:
    """Return the section of one command: its usage, its help text, and a table for each group of options."""
    usage, _, about = text.partition("╭")[0].strip().partition("\n\n")
    parts = [f"## limbeck {name}\n", f"```text\n{usage.removeprefix('usage: ')}\n```\n", *paragraphs(about)]
    for title, lines in boxes(text):
        title = title.removeprefix("positional ")
        if title != "messages" and (rows := table(lines)):
            parts += [f"### {title.capitalize()} {{ #{name}-{title.replace(' ', '-')} }}\n", rows]
    return "\n".join(parts)


def paragraphs(text: str) -> Iterator[str]:
    """Yield prose as it is, and examples of commands as code."""
    for is_command, lines in groupby(text.strip().splitlines(), key=lambda line: line.strip().startswith("limbeck ")):
        block = "\n".join(line.strip() for line in lines).strip()
        if block:
            yield f"```bash\n{block}\n```\n" if is_command else f"{escaped(block)}\n"


def boxes(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield title and lines of every box of the help."""
    for title, body in re.findall(r"^╭─ (.+?) ─*╮\n(.*?)^╰─*╯", text, re.M | re.S):
        yield title, [line.removeprefix("│").removesuffix("│").removeprefix(" ").rstrip() for line in body.splitlines()]


def table(lines: list[str]) -> str:
    """Return a box as Markdown: what is above its rule as a paragraph, then a row per option, except common ones."""
    rule = next((number for number, line in enumerate(lines) if set(line) == {"─"}), -1)
    above = " ".join(line.strip() for line in lines[: max(rule, 0)])
    options: list[list[str]] = []
    for line in lines[rule + 1 :]:
        if line and not line.startswith(" "):
            options.append(re.split(r" {2,}", line, maxsplit=1))
        elif line and options:
            options[-1].append(line.strip())
    rows = [row(option, " ".join(words)) for option, *words in options if option not in COMMON]
    head = [f"{escaped(above)}\n"] if above else []
    return "\n".join([*head, "| option | default | meaning |", "|---|---|---|", *rows, ""]) if rows else ""


def row(option: str, meaning: str) -> str:
    """Return a row of the table; the help has the default at the end of the meaning, in brackets."""
    default = ""
    if found := re.search(r" ?\((?:default: (?P<value>.*)|required)\)$", meaning):
        meaning = meaning[: found.start()]
        value = found["value"]
        default = "required" if value is None else f"`{value}`" if value else "none"
    name, _, values = option.partition(" ")
    if "," in name:  # a flag and its opposite
        shown_name = option.replace(name, f"`{name[:-1]}`,", 1).replace(values, f"`{values}`")
    else:
        shown_name = f"`{name}` `{values}`" if values else f"`{name}`"
    return f"| {shown_name} | {default} | {escaped(meaning)} |"


def escaped(text: str) -> str:
    """Escape a text in which only backticks are markup."""
    parts = text.split("`")
    return "`".join(re.sub(r"([*<\[|])", r"\\\1", part) if at % 2 == 0 else part for at, part in enumerate(parts))
