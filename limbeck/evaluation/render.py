"""A result, models next to each other, and a comparison as tables for a terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from limbeck.core.text import plural
from limbeck.evaluation.columns import fallen, fitting_columns, measured_columns
from limbeck.evaluation.metric import STDERR, UNTRAINED, Column, Values
from limbeck.evaluation.results import Comparison, EvaluationResult, ModelScores, percent

WIDTH = 80
NAME = 24
"""Characters of a name in a table of models."""


def layer_table(result: EvaluationResult, width: int = WIDTH) -> Table:
    """Return a table with a row per layer, as wide as `width` characters allow.

    Columns that were not measured, and the least important ones that do not fit, are left out; "-" is a missing value.
    """
    rows = [layer.values for layer in result.layers]
    names = [str(layer.depth) for layer in result.layers]
    columns = measured_columns(rows, "cost", "accuracy", "representation")
    return _table(_title(result), "layer", names, columns, rows, width)


def model_table(models: Sequence[ModelScores], width: int = WIDTH) -> Table:
    """Return a table with a row per model as a whole: its cost and its accuracies."""
    rows = [model.values for model in models]
    columns = [column for column in measured_columns(rows, "cost", "accuracy") if not _of_untrained(column)]
    return _table("", "network", [short_name(model.name) for model in models], columns, rows, width)


def reference_table(result: EvaluationResult, name: str, width: int = WIDTH) -> Table:
    """Return a table of the network `name` at its last layer and of the lines of reference."""
    last = ModelScores(name=name, image_size=result.image_size, values=result.layers[-1].values)
    return model_table([last, *result.references], width)


def comparison_table(comparison: Comparison, width: int = WIDTH, nouns: tuple[str, str] = ("image", "images")) -> Table:
    """Return a table with a row per model: cost, accuracy, and how much of the teacher's space is preserved."""
    rows = [model.values for model in comparison.models]
    names = [short_name(model.name) for model in comparison.models]
    title = (
        f"{comparison.num_neighbors} nearest neighbors among {comparison.images:,} test {nouns[1]}: "
        f"{percent(comparison.chance)} agreement by chance"
    )
    return _table(title, "model", names, measured_columns(rows), rows, width)


def _table(
    title: str, head: str, names: Sequence[str], columns: Sequence[Column], rows: Sequence[Values], width: int
) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, caption_justify="left")
    table.add_column(head, justify="right" if head == "layer" else "left", no_wrap=True)
    cells = [_cells(column, rows, by_depth=head == "layer") for column in columns]
    widths = [1 + max(map(len, [*_head(c).split("\n"), *texts])) for c, texts in zip(columns, cells, strict=True)]
    room = width - 2 - max(map(len, [head, *names]))
    shown = fitting_columns(columns, widths, room)
    for index in shown:
        style = "dim" if columns[index].reference else None
        table.add_column(_head(columns[index]), justify="right", no_wrap=True, style=style)
    for name, *texts in zip(names, *(cells[index] for index in shown), strict=True):
        table.add_row(name, *texts)
    table.caption = _notes([columns[index] for index in shown], [cells[index] for index in shown])
    return table


def _head(column: Column) -> str:
    """Return the heading, a word per line, the unit on the last one."""
    return "\n".join([*(column.short or column.label).split(), column.unit]).strip()


def _cells(column: Column, rows: Sequence[Values], *, by_depth: bool) -> list[str]:
    """Return the texts of a column; a value that cannot fall with depth and does is marked with a tilde."""
    marks = ["~" if by_depth and noisy else "" for noisy in fallen(column, rows)]
    return [mark + column.text(row.get(column.name)) for mark, row in zip(marks, rows, strict=True)]


def _notes(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> str | None:
    notes = []
    if any(column.name.endswith(STDERR) for column in columns):
        notes.append("±: standard error on these test rows")
    if any(_of_untrained(column) for column in columns):
        notes.append("init: the same network at its random initialization")
    if any(text.startswith("~") for texts in cells for text in texts):
        notes.append("~: below a shallower layer, which is noise of this machine")
    return "\n".join(notes) or None


def short_name(name: str) -> str:
    """Return the end of a long name, such as a path, from the start of one of its parts."""
    if len(name) <= NAME:
        return name
    end = name[-NAME + 1 :]
    return "…" + (end[end.index("/") :] if "/" in end else end)


def _of_untrained(column: Column) -> bool:
    return column.name.startswith(UNTRAINED)


def _title(result: EvaluationResult) -> str:
    if result.keypoints:
        images = f"{result.train.images:,} + {plural(result.test.images, *result.nouns)}"
        return f"{images}, {plural(len(result.keypoints), 'annotated keypoint')}"
    if not result.classes:
        return f"{plural(result.test.images, *result.nouns)} without labels"
    probe = f", linear by {result.linear_probe}" if result.linear_probe else ""
    images = f"{result.train.images:,} + {plural(result.test.images, *result.nouns)}"
    neighbors = f", k = {result.k}" if result.k != result.config.k else ""
    return f"{images}, {plural(len(result.classes), 'class', 'classes')}{probe}{neighbors}"
