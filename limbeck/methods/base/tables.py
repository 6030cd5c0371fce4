"""The tables of methods in the documentation, made from the cards.

`python -m limbeck.methods.base.tables`, in the root of the repository, updates the pages after a card has changed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from limbeck.methods import DistillConfig, HostConfig, MethodConfig, method_config, method_names

BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"


def methods_table(folder: str) -> str:
    """Return a row for every method; `folder` leads from the page of the table to the pages of the methods."""
    rows = [
        (link(method, folder), method.card.summary, method.card.state, f"{method.card.cost:.1f}", method.card.use_when)
        for method in methods()
    ]
    return markdown(("method", "idea", "state", "cost", "when to use it"), rows)


def hosts_table(folder: str) -> str:
    """Return a row for every method: what the layers of SDSSL learn over it, or why it is no host."""
    rows = [
        (link(method, folder), "yes", method.card.summary)
        if issubclass(method, HostConfig)
        else (link(method, folder), "no", method.not_a_host_reason)
        for method in methods()
    ]
    return markdown(("method", "host", "what a layer learns, or why not"), rows)


def distillers_table(folder: str) -> str:
    """Return a row for every method that learns from a teacher."""
    rows = [
        (link(method, folder), method.card.summary, f"{method.card.cost:.1f}", method.card.use_when)
        for method in methods()
        if issubclass(method, DistillConfig)
    ]
    return markdown(("method", "idea", "cost", "when to use it"), rows)


PAGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "README.md": ("docs/methods/", methods_table),
    "docs/methods/sdssl.md": ("", hosts_table),
    "docs/distillation.md": ("methods/", distillers_table),
}
"""For each page with a table, from the root of the repository: its way to the pages of the methods, and the table."""


def methods() -> list[type[MethodConfig]]:
    """Return the configuration of every method."""
    return [method_config(name) for name in method_names()]


def link(method: type[MethodConfig], folder: str) -> str:
    """Return a method's name as a link to its page."""
    return f"[`{method.name}`]({folder}{method.name}.md)"


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table as Markdown."""
    head = tuple(head)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def update(root: Path) -> None:
    """Replace the table between the two markers of every page below `root`."""
    for name, (folder, table) in PAGES.items():
        page = root / name
        head, rest = page.read_text(encoding="utf-8").split(BEGIN)
        page.write_text(f"{head}{BEGIN}\n\n{table(folder)}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    update(Path())
