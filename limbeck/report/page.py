"""The page: sections of text, charts and tables about runs."""

from collections.abc import Iterable, Sequence
from html import escape

from limbeck import __version__
from limbeck.report import charts, sections
from limbeck.report.runs import Run
from limbeck.report.style import STYLE
from limbeck.report.tables import layer_table
from limbeck.report.text import distilled, recipe, summary, verdicts, what_can_be_cut, what_is_missing

LAYERS = (
    "Accuracy when the network ends at a layer and everything above it is thrown away. "
    "The dashed line is the same network untrained, at its random initialisation: what lies above it was learnt."
)
PRICES = "Each point is the network cut at the layer written beside it. Up and to the left is better."
TABLE = (
    "Accuracies in %. The scissors mark the lowest layer within one point of the best k-NN. GFLOPs count a "
    "multiplication and its addition as two operations; latency is the median time of one image."
)
TEACHER = (
    "Neighbours kept: of each test image's nearest test images, by cosine, how many % are the teacher's too. CKA: how "
    "alike the similarities of all images are, 1 being the same up to rotation and scale; beside it what unrelated "
    "pairs of the same vectors would give. Accuracies in %."
)
GEOMETRY = (
    "Alignment: how many times farther apart two images are than two views of one image (mean squared distances). "
    "Effective rank: how many directions the features use; a value near 1 is collapse."
)
TRAINING = (
    "What metrics.csv of each run holds. Where weights of terms grow during a run, the loss may rise while every term "
    "falls. The k-NN accuracy is taken within the training images."
)
HEALTH = "Read from the same images every few hundred steps, without labels. Squared distances lie between 0 and 4."
# Charts are drawn before the page has its final columns, and browsers lay paper out only after `beforeprint`.
FIT = (
    "const charts = () => document.querySelectorAll('.js-plotly-plot');"
    "const fit = () => charts().forEach(chart => Plotly.relayout(chart, {width: null, autosize: true}));"
    "const print = () => charts().forEach(chart => Plotly.relayout(chart, {width: 340}));"
    "addEventListener('load', fit); addEventListener('beforeprint', print); addEventListener('afterprint', fit);"
)


def page(runs: Sequence[Run]) -> str:
    """The whole page, plotly included."""
    from plotly.offline import get_plotlyjs

    title = " and ".join(run.name for run in runs) if len(runs) < 3 else f"{len(runs)} runs"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Limbeck: {escape(title)}</title>\n<style>{STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n"
        f'<p class="eyebrow">Limbeck report</p><h1>{escape(title)}</h1>\n{_runs(runs)}\n{"".join(_sections(runs))}'
        f"<footer>Written by Limbeck {__version__}.</footer>\n</main>\n<script>{FIT}</script>\n</body>\n</html>\n"
    )


def _sections(runs: Sequence[Run]) -> Iterable[str]:
    judged = [run for run in runs if run.result]
    yield _section("Student and teacher", TEACHER, [], distilled(judged))
    yield _section("What each layer is worth", LAYERS, sections.accuracy(runs))
    yield _section("How much can be cut", PRICES, sections.prices(runs), what_can_be_cut(judged))
    yield _section("Layer by layer", TABLE, [], "".join(layer_table(run) for run in judged))
    yield _section("Geometry of the features", GEOMETRY, sections.geometry(runs))
    yield _section("Training", TRAINING, sections.training(runs))
    yield _section("Health", HEALTH, sections.health(runs), verdicts(runs))
    yield _section("How each run can be repeated", "", [], "".join(recipe(run) for run in runs))


def _runs(runs: Sequence[Run]) -> str:
    """A sentence or two about each run."""
    return "".join(
        f'<div class="run" style="--run:{charts.colour(index)}"><p><b>{escape(run.name)}</b>: {summary(run)}</p>'
        f"{''.join(f'<p class=quiet>{line}</p>' for line in what_is_missing(run))}</div>"
        for index, run in enumerate(runs)
    )


def _section(title: str, text: str, drawn: Sequence[str], more: str = "") -> str:
    """Nothing where there is nothing to show."""
    shown = "".join(drawn)
    if not shown and not more:
        return ""
    grid = f'<div class="charts">{shown}</div>' if shown else ""
    return f"<section><h2>{title}</h2>{f'<p>{text}</p>' if text else ''}{grid}{more}</section>\n"
