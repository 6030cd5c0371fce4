"""The top of a report: one sentence per run, and its accuracy next to the lines of reference."""

from collections.abc import Sequence
from typing import NamedTuple

from limbeck.core.text import format_duration, plural
from limbeck.evaluation.metric import STDERR, standard_error
from limbeck.evaluation.metrics import all_columns
from limbeck.evaluation.references import UNTRAINED_NETWORK
from limbeck.evaluation.results import EvaluationResult, LayerResult
from limbeck.evaluation.verdict import KEYPOINT_ERROR, cheapest_cut, stand
from limbeck.keypoints.config import DetectorConfig
from limbeck.reports import charts
from limbeck.reports.runs import RunSummary
from limbeck.reports.text import evaluated_differently, network, percent


class Bar(NamedTuple):
    """An accuracy as a bar."""

    name: str
    color: str
    share: float
    error: float
    text: str
    own: bool
    """Whether it is that of a run."""


class Fact(NamedTuple):
    """A number with what it is."""

    name: str
    value: str


class KeyNumber(NamedTuple):
    """The number that matters."""

    name: str
    color: str
    value: str
    error: str
    about: str
    facts: list[Fact]


def headline(run: RunSummary) -> str:
    """Return in a sentence what was trained, on what, for how long, and what it is worth.

    Of an adaptation and of a fine-tuning in two sentences.
    """
    sentence = _trained(run)
    if run.finetuned:
        return f"{sentence} {run.finetuned.sentence()}."
    return f"{sentence} It is {run.adaptation.sentence()}." if run.adaptation else sentence


def _trained(run: RunSummary) -> str:
    rows = plural(run.images, *run.nouns) if run.images else run.nouns[1] + ("" if run.config.store else " in memory")
    time = f", about {_rounded(run.seconds)}," if run.seconds >= 1 else ""
    epochs = run.config.training.num_epochs if run.finished else run.epoch
    length = f"{epochs:.3g} {'epoch' if epochs == 1 else 'epochs'}"
    trained = f"{length} of {run.method} on {rows}{time} gave {_article(network(run.config.backbone))}"
    cut = cheapest_cut(run.result) if run.result else None
    if isinstance(run.config.backbone, DetectorConfig):
        return f"{trained} of {plural(run.config.backbone.keypoints, 'keypoint')}."
    if run.result is None or cut is None:
        return f"{trained}." if run.finetuned else f"{trained}, which has not been evaluated with labels."
    last = run.result.layers[-1].depth
    where = (
        f"can be cut at layer {cut.depth} of {last}"
        if cut.depth < last
        else f"needs all of its {last} layers"
        if last > 1
        else "has one layer"
    )
    worth = _standing(run, cut)
    return f"{trained} that is {worth}, and {where}." if worth else f"{trained} that {where}."


def key_numbers(runs: Sequence[RunSummary]) -> list[KeyNumber]:
    """Return for every run its accuracy at the layer where it can be cut, with its standard error and its cost."""
    found = []
    for index, run in enumerate(runs):
        shade = charts.color(index)
        cut = cheapest_cut(run.result) if run.result else None
        if run.result and cut:
            found.append(_key_number(run, cut, shade))
        elif run.result and run.result.keypoints:
            found.append(_keypoint_error(run.name, run.result, shade))
        elif run.knn is not None:
            about = f"k-NN accuracy within the training {run.nouns[1]}"
            found.append(KeyNumber(run.name, shade, percent(run.knn), "", about, []))
    return found


def bars(runs: Sequence[RunSummary]) -> list[Bar]:
    """Return the accuracies of the runs where they can be cut, then of the lines of reference, without repetition.

    Where the runs were evaluated on different images, each line of reference has the name of its run.
    """
    own, others = [], {}
    differ = bool(evaluated_differently(runs))
    for index, run in enumerate(runs):
        cut = cheapest_cut(run.result) if run.result else None
        if not run.result or not cut:
            continue
        images = run.result.test.images
        own.append(_bar(f"{run.name}, layer {cut.depth}", charts.color(index), cut.values["knn"] or 0.0, images, True))
        for model in run.result.references:
            if (accuracy := model.values.get("knn")) is not None:
                name = f"{model.name} ({run.name})" if differ else model.name
                bar = _bar(name, "var(--quiet)", accuracy, images, False)
                others[bar.name, bar.text] = bar
    return [*own, *others.values()]


def _key_number(run: RunSummary, cut: LayerResult, shade: str) -> KeyNumber:
    assert run.result
    accuracy, images = cut.values["knn"] or 0.0, run.result.test.images
    noun = run.nouns[images != 1]
    costs = [column for column in all_columns("cost") if column.priority == 0]
    measured = [(column, cut.values.get(column.name)) for column in costs]
    return KeyNumber(
        name=run.name,
        color=shade,
        value=percent(accuracy),
        error=f"± {100 * standard_error(accuracy, images):.1f}",
        about=f"k-NN accuracy at layer {cut.depth} of {run.result.layers[-1].depth}, on {images:,} test {noun}",
        facts=[
            Fact(column.label, f"{column.text(value)} {column.unit}".strip())
            for column, value in measured
            if value is not None
        ],
    )


def _keypoint_error(name: str, result: EvaluationResult, shade: str) -> KeyNumber:
    values = result.layers[-1].values
    about = (
        f"of the side: mean distance of {plural(len(result.keypoints), 'annotated keypoint')} from those that follow "
        f"from the found ones, on {plural(result.test.images, 'test image')}"
    )
    error = f"± {100 * (values.get(KEYPOINT_ERROR + STDERR) or 0.0):.2f}"
    return KeyNumber(name, shade, f"{100 * (values.get(KEYPOINT_ERROR) or 0.0):.2f} %", error, about, [])


def _bar(name: str, shade: str, accuracy: float, images: int, own: bool) -> Bar:
    error = standard_error(accuracy, images)
    return Bar(name, shade, accuracy, error, f"{100 * accuracy:.1f} ± {100 * error:.1f} %", own)


def _standing(run: RunSummary, cut: LayerResult) -> str:
    """Return `"better than raw pixels, worse than patch filters"`; empty without lines of reference."""
    assert run.result
    found = stand(cut, run.result.references, "knn", run.result.test.images)
    words = zip(("better than ", "level with ", "worse than "), found, strict=True)
    return ", ".join(word + _list([_short(text) for text in group]) for word, group in words if group)


def _short(name: str) -> str:
    """Return the name of a network without its accuracy."""
    found = name.rpartition(" (")[0]
    return "its untrained self" if found == UNTRAINED_NETWORK else found


def _rounded(seconds: float) -> str:
    """Return a duration of which only the magnitude is known: in minutes from 90 s on, and in hours from 90 min on."""
    unit = 3600 if seconds >= 5400 else 60 if seconds >= 90 else 1
    return format_duration(round(seconds / unit) * unit).removesuffix(" 0 s").removesuffix(" 0 min")


def _list(names: Sequence[str]) -> str:
    """Return `"a, b and c"`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"
