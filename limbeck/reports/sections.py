"""The sections of a report: charts, sentences and tables under a heading."""

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.evaluation.metric import Column, Group
from limbeck.evaluation.metrics import all_columns
from limbeck.reports import charts
from limbeck.reports.charts import Charts
from limbeck.reports.plot import Chart, Numbers
from limbeck.reports.runs import Curve, RunSummary
from limbeck.reports.tables import Table, comparison_table, layer_table
from limbeck.reports.text import cut_sentences, evaluated_differently, fidelity_sentences, health_sentences

HEALTH = {
    "embedding_rank": "embeddings: effective rank (collapse below 3)",
    "embedding_std": "embeddings: standard deviation (collapse below 0.1)",
    "effective_rank": "features: effective rank",
    "alignment": "squared distance of two views",
    "dead_units": "fraction of dead units",
    "ema_distance": "squared distance of EMA encoder and encoder",
    "peak_to_rms": "feature maps: largest value of a channel over its RMS",
    "kurtosis": "feature maps: kurtosis",
}
FIDELITY = {"neighbor_agreement": "neighbor agreement with the teacher", "cka": "CKA with the teacher"}
OTHER = (
    "step",
    "epoch",
    "lr",
    "knn",
    "neighbor_agreement_chance",
    "grad_norm",
    "images_per_second",
    "data_wait",
    "uniformity",
    "weight_norm",
    "weight_hash",
    "peak_depth",
)
NOT_TERMS = (*OTHER, *FIDELITY, *HEALTH)  # columns of metrics.csv that are not terms of a loss
SAME_SCALE = 2.5  # curves share a chart while each ends below this many times the next smaller one


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page; it is left out where it has neither charts nor items nor tables."""

    title: str
    text: str
    charts: Sequence[Chart | Numbers] = ()
    items: Sequence[tuple[str, str]] = ()
    """(run, sentence) of a list."""
    warning: str = ""
    tables: Sequence[Table] = ()

    def __bool__(self) -> bool:
        return bool(self.charts or self.items or self.tables)


def sections(runs: Sequence[RunSummary]) -> list[Section]:
    """Return the sections that have something to show."""
    evaluated = [run for run in runs if run.result]
    nouns = runs[0].nouns
    return [section for section in (*_layers(runs, evaluated, nouns), *_course(runs, nouns)) if section]


def _layers(runs: Sequence[RunSummary], evaluated: Sequence[RunSummary], nouns: tuple[str, str]) -> tuple[Section, ...]:
    return (
        Section(
            title="Accuracy of each layer",
            text="Accuracy when the network is cut at a layer; whiskers are one standard error. The dashed line is the "
            "same network at its random initialization: what lies above it was learned. In the table, the scissors "
            "mark the lowest layer within one standard error of the best k-NN accuracy.",
            charts=_by_layer(runs, "accuracy"),
            tables=[layer_table(run, "cost", "accuracy") for run in evaluated],
        ),
        Section(
            title="What a cut saves",
            text="Each point is the network cut at the layer next to it. Up and to the left is better.",
            charts=[chart for column in _charted("cost") for chart in charts.by_cost(runs, column)],
            items=cut_sentences(evaluated),
            warning=evaluated_differently(evaluated),
        ),
        _fidelity(evaluated),
        Section(
            title="Geometry of the features",
            text=f"Alignment: how many times farther apart two {nouns[1]} are than two views of one {nouns[0]}. "
            "Effective rank: the number of directions that the features use; near 1 means collapse.",
            charts=_by_layer(runs, "representation"),
            tables=[found for run in evaluated if (found := layer_table(run, "representation")).columns],
        ),
    )


def _course(runs: Sequence[RunSummary], nouns: tuple[str, str]) -> tuple[Section, ...]:
    return (
        Section(
            title="Training",
            text="The columns of metrics.csv. Where weights of terms grow during a run, the loss may rise while every "
            f"term falls. The k-NN accuracy is measured within the training {nouns[1]}.",
            charts=training(runs),
        ),
        Section(
            title="Health",
            text=f"Measured on the same {nouns[1]} every few hundred steps, without labels. Squared distances are "
            "between 0 and 4.",
            charts=_curves(runs, HEALTH),
            items=health_sentences(runs),
        ),
    )


def training(runs: Sequence[RunSummary]) -> Charts:
    """Return the loss and its terms run by run, since methods have different losses; the rest together."""
    losses = [
        chart
        for run in runs
        for terms in by_scale(run.curves)
        for chart in charts.of_terms(
            terms, f"{run.name}: {', '.join(terms) if len(terms) < 3 else 'loss and its terms'}"
        )
    ]
    knn = [(run.name, [(epoch, 100 * share) for epoch, share in run.curves.get("knn", [])]) for run in runs]
    return [*losses, *charts.of_runs(knn, "k-NN accuracy", "%"), *_curves(runs, FIDELITY | {"lr": "learning rate"})]


def by_scale(curves: dict[str, Curve]) -> list[dict[str, Curve]]:
    """Group the loss and its terms so that one axis can show each group, largest first; within a group in order."""
    terms = {name: curve for name, curve in curves.items() if name not in NOT_TERMS}
    groups: list[dict[str, Curve]] = []
    previous = float("inf")
    for name in sorted(terms, key=lambda name: -abs(terms[name][-1][1])):
        size = abs(terms[name][-1][1])
        if size * SAME_SCALE < previous:
            groups.append({})
        groups[-1][name] = terms[name]
        previous = size
    return [{name: group[name] for name in terms if name in group} for group in groups]


def _fidelity(runs: Sequence[RunSummary]) -> Section:
    return Section(
        title="Student and teacher",
        text="Neighbor agreement: the fraction of a test image's nearest test images, by cosine, that are also the "
        "teacher's. CKA: how similar the similarities of all pairs of images are; 1 is the same up to rotation and "
        "scale, and unrelated pairings of the same vectors give the value by chance.",
        items=fidelity_sentences(runs),
        tables=[table for run in runs for table in comparison_table(run)],
    )


def _by_layer(runs: Sequence[RunSummary], group: Group) -> Charts:
    return [chart for column in _charted(group) for chart in charts.by_layer(runs, column)]


def _charted(group: Group) -> list[Column]:
    return [column for column in all_columns(group) if column.priority == 0 and not column.reference]


def _curves(runs: Sequence[RunSummary], captions: dict[str, str]) -> Charts:
    return [
        chart
        for name, caption in captions.items()
        for chart in charts.of_runs([(run.name, run.curves.get(name, [])) for run in runs], caption)
    ]
