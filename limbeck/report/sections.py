"""Which charts stand in which section."""

from collections.abc import Sequence

from limbeck.report import charts
from limbeck.report.runs import Curve, Run

HEALTH = {
    "embedding_rank": "effective rank of the embeddings (below 3: collapse)",
    "deviation": "deviation of the embeddings (below 0.1: collapse)",
    "effective_rank": "effective rank of the features",
    "alignment": "distance of two views of an image",
    "dead_units": "share of dead units",
    "ema_distance": "distance of teacher and student",
}
LOGGED = (
    ("agreement", "share of the teacher's neighbours that are kept"),
    ("cka", "CKA with the teacher"),
    ("lr", "learning rate"),
)
OTHER = (
    "step",
    "epoch",
    "lr",
    "knn",
    "agreement",
    "cka",
    "grad_norm",
    "images_per_second",
    "data_wait",
    "uniformity",
    "weight_norm",
)
COMMON = (*OTHER, *HEALTH)  # columns of metrics.csv that are no terms of a loss
ALIKE = 2.5  # curves share a chart while each ends below so many times the next smaller one


def accuracy(runs: Sequence[Run]) -> list[str]:
    """Of every layer."""
    return [
        charts.by_layer(
            runs, lambda row: row.knn, lambda row: row.random_knn, "k-NN accuracy by layer, %", percent=True
        ),
        charts.by_layer(
            runs,
            lambda row: row.linear,
            lambda row: row.random_linear,
            "linear probe accuracy by layer, %",
            percent=True,
        ),
    ]


def prices(runs: Sequence[Run]) -> list[str]:
    """Accuracy against what it costs."""
    return [
        charts.by_cost(runs, lambda row: row.latency_ms, "latency", "ms per image"),
        charts.by_cost(runs, lambda row: row.gflops, "arithmetic", "GFLOPs per image"),
    ]


def geometry(runs: Sequence[Run]) -> list[str]:
    """Of the features of every layer."""
    return [
        charts.by_layer(runs, lambda row: row.ratio, None, "alignment by layer"),
        charts.by_layer(
            runs, lambda row: row.effective_rank, lambda row: row.random_effective_rank, "effective rank by layer"
        ),
    ]


def training(runs: Sequence[Run]) -> list[str]:
    """The loss and its terms run by run, since methods have losses of their own; the rest together."""
    losses = [
        charts.of_terms(terms, f"{run.name}: loss and its terms") for run in runs for terms in by_size(run.curves)
    ]
    knn = [(run.name, [(epoch, 100 * share) for epoch, share in run.curves.get("knn", [])]) for run in runs]
    measured = [charts.of_runs([(run.name, run.curves.get(name, [])) for run in runs], said) for name, said in LOGGED]
    return [*losses, charts.of_runs(knn, "k-NN accuracy, %"), *measured]


def health(runs: Sequence[Run]) -> list[str]:
    """What training read of the encoder and the embeddings, a chart per column."""
    return [
        charts.of_runs([(run.name, run.curves.get(name, [])) for run in runs], said) for name, said in HEALTH.items()
    ]


def by_size(curves: dict[str, Curve]) -> list[dict[str, Curve]]:
    """The loss and its terms in groups that one axis can show, the largest first; within one, in their own order."""
    terms = {name: curve for name, curve in curves.items() if name not in COMMON}
    groups: list[dict[str, Curve]] = []
    below = float("inf")
    for name in sorted(terms, key=lambda name: -abs(terms[name][-1][1])):
        size = abs(terms[name][-1][1])
        if size * ALIKE < below:
            groups.append({})
        groups[-1][name] = terms[name]
        below = size
    return [{name: group[name] for name in terms if name in group} for group in groups]
