"""Choose the columns of a table, and write the table of all columns into the documentation.

`python -m limbeck.evaluation.columns docs/evaluation.md` brings the page up to date after a metric has changed.
"""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from limbeck.evaluation.metric import Column, Group, Values
from limbeck.evaluation.metrics import GROUPS, all_columns

BEGIN, END = "<!-- columns: begin -->", "<!-- columns: end -->"
RESULT_ONLY = 3
"""Priority of the columns that no table shows."""


def measured_columns(rows: Collection[Values], *groups: Group) -> list[Column]:
    """Return the columns, in the order of tables, that have a value in at least one of `rows`."""
    return [column for column in all_columns(*groups) if any(row.get(column.name) is not None for row in rows)]


def fitting_columns(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Return the positions of the columns that fit into `room` characters, those of lowest priority left out first."""
    chosen = []
    for index in sorted(range(len(columns)), key=lambda i: (columns[i].priority, i)):
        room -= widths[index]
        if room < 0 or columns[index].priority >= RESULT_ONLY:
            break
        chosen.append(index)
    return sorted(chosen)


def fallen(column: Column, rows: Sequence[Values]) -> list[bool]:
    """Return for each depth whether a column that cannot fall with depth is below an earlier value: noise."""
    highest, found = float("-inf"), []
    for row in rows:
        value = row.get(column.name)
        found.append(column.rises and value is not None and value < highest)
        highest = max(highest, value if value is not None else highest)
    return found


def markdown() -> str:
    """Return the table of all columns as Markdown."""
    lines = ["| column | in result.json | better | definition |", "|---|---|---|---|"]
    for group in GROUPS:
        for column in all_columns(group):
            lines.append(f"| {column.title} | `{column.name}` | {column.better or ''} | {column.help} |")
    return "\n".join(lines)


def update(page: Path) -> None:
    """Replace the table of columns between the two markers of a page."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{markdown()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    update(Path(sys.argv[1]))
