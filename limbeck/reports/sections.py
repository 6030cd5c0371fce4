"""The sections of a report: charts, sentences and tables under a heading."""

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.evaluation.metric import Column, Group
from limbeck.evaluation.metrics import all_columns
from limbeck.reports import charts
from limbeck.reports.charts import Chart
from limbeck.reports.runs import Curve, RunSummary
from limbeck.reports.tables import Table, comparison_table, layer_table, reference_table
from limbeck.reports.text import cut_sentences, evaluated_differently, fidelity_sentences, health_sentences, verdicts

HEALTH = {
    "embedding_rank": "effective rank of the embeddings (below 3: collapse)",
    "embedding_std": "standard deviation of the embeddings (below 0.1: collapse)",
    "effective_rank": "effective rank of the features",
    "alignment": "squared distance of two views of an image",
    "dead_units": "fraction of dead units",
    "ema_distance": "squared distance of EMA encoder and encoder",
}
FIDELITY = {"neighbor_agreement": "neighbor agreement with the teacher", "cka": "CKA with the teacher"}
OTHER = (
    "step",
    "epoch",
    "lr",
    "knn",
    "grad_norm",
    "images_per_second",
    "data_wait",
    "uniformity",
    "weight_norm",
    "weight_hash",
)
NOT_TERMS = (*OTHER, *FIDELITY, *HEALTH)  # columns of metrics.csv that are not terms of a loss
SAME_SCALE = 2.5  # curves share a chart while each ends below this many times the next smaller one


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page; it is left out where it has neither charts nor items nor tables."""

    title: str
    text: str
    charts: Sequence[Chart] = ()
    items: Sequence[tuple[str, str]] = ()
    """(run, sentence) of a list."""
    warning: str = ""
    tables: Sequence[Table] = ()

    def __bool__(self) -> bool:
        return bool(self.charts or self.items or self.tables)


def sections(runs: Sequence[RunSummary]) -> list[Section]:
    """Return the sections that have something to show."""
    evaluated = [run for run in runs if run.result]
    found = (
        _references(evaluated),
        _fidelity(evaluated),
        Section(
            title="Accuracy of each layer",
            text="Accuracy when the network is cut at a layer. The dashed line is the same network at its random "
            "initialization: what lies above it was learned.",
            charts=_by_layer(runs, "accuracy"),
        ),
        Section(
            title="How much can be cut",
            text="Each point is the network cut at the layer next to it. Up and to the left is better.",
            charts=[chart for column in _charted("cost") for chart in charts.by_cost(runs, column)],
            items=cut_sentences(evaluated),
            warning=evaluated_differently(evaluated),
        ),
        Section(
            title="Layer by layer",
            text="The scissors mark the lowest layer within one standard error of the best k-NN accuracy. Headings "
            "have a definition under the pointer; gray columns are for comparison.",
            tables=[layer_table(run) for run in evaluated],
        ),
        Section(
            title="Geometry of the features",
            text="Alignment: how many times farther apart two images are than two views of one image. Effective rank: "
            "the number of directions that the features use; near 1 means collapse.",
            charts=_by_layer(runs, "representation"),
        ),
        Section(
            title="Training",
            text="The columns of metrics.csv. Where weights of terms grow during a run, the loss may rise while every "
            "term falls. The k-NN accuracy is measured within the training images.",
            charts=training(runs),
        ),
        Section(
            title="Health",
            text="Measured on the same images every few hundred steps, without labels. Squared distances are between 0 "
            "and 4.",
            charts=_curves(runs, HEALTH),
            items=health_sentences(runs),
        ),
    )
    return [section for section in found if section]


def training(runs: Sequence[RunSummary]) -> list[Chart]:
    """Return the loss and its terms run by run, since methods have different losses; the rest together."""
    losses = [
        chart
        for run in runs
        for terms in by_scale(run.curves)
        for chart in charts.of_terms(terms, f"{run.name}: loss and its terms")
    ]
    knn = [(run.name, [(epoch, 100 * share) for epoch, share in run.curves.get("knn", [])]) for run in runs]
    return [*losses, *charts.of_runs(knn, "k-NN accuracy, %"), *_curves(runs, FIDELITY | {"lr": "learning rate"})]


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


def _references(runs: Sequence[RunSummary]) -> Section:
    return Section(
        title="What training has brought",
        text="The whole network next to features that need no training (raw pixels, filters from k-means of image "
        "patches, the network at its random initialization) and to the networks that were named. Two accuracies differ "
        "if they are more than two standard errors of their difference apart.",
        items=verdicts(runs),
        tables=[table for run in runs for table in reference_table(run)],
    )


def _fidelity(runs: Sequence[RunSummary]) -> Section:
    return Section(
        title="Student and teacher",
        text="Neighbor agreement: the fraction of a test image's nearest test images, by cosine, that are also the "
        "teacher's. CKA: how similar the similarities of all pairs of images are; 1 is the same up to rotation and "
        "scale, and unrelated pairings of the same vectors give the value by chance.",
        items=fidelity_sentences(runs),
        tables=[table for run in runs for table in comparison_table(run)],
    )


def _by_layer(runs: Sequence[RunSummary], group: Group) -> list[Chart]:
    return [chart for column in _charted(group) for chart in charts.by_layer(runs, column)]


def _charted(group: Group) -> list[Column]:
    return [column for column in all_columns(group) if column.priority == 0 and not column.reference]


def _curves(runs: Sequence[RunSummary], captions: dict[str, str]) -> list[Chart]:
    return [
        chart
        for name, caption in captions.items()
        for chart in charts.of_runs([(run.name, run.curves.get(name, [])) for run in runs], caption)
    ]
