"""The sentences of a report, as plain text that the templates escape."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from limbeck.core.config import EncoderConfig
from limbeck.core.run_folder import METRICS
from limbeck.core.text import format_duration, plural
from limbeck.evaluation.results import LayerResult
from limbeck.evaluation.verdict import cheapest_cut
from limbeck.modalities import modality_of
from limbeck.models.config import BackboneConfig
from limbeck.reports.portable import portable_folder
from limbeck.reports.runs import RunSummary


class Gap(NamedTuple):
    """Something that a run lacks, and the command that adds it."""

    sentence: str
    command: str = ""


def gaps(run: RunSummary) -> list[Gap]:
    """Describe what a run lacks; an evaluation only where there is one of its kind."""
    folder = shlex.quote(portable_folder(run.folder))
    where = f", which stopped at {run.stage}" if run.stage else ""
    evaluate = modality_of(run.config.backbone).evaluate_commands(portable_folder(run.folder))
    unevaluated = run.finished and not run.result and evaluate
    found = [
        (not run.curves, Gap(f"Training has not logged anything yet (no {METRICS}).")),
        (not run.finished, Gap(f"Training is not finished{where}; continue it with", f"limbeck resume {folder}")),
        (unevaluated, Gap("The layers are not evaluated yet; do so with", "".join(evaluate))),
    ]
    return [gap for missing, gap in found if missing]


def cut_sentences(runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return for each run what the lowest good layer preserves and saves."""
    cuts = [(run.name, cheapest_cut(run.result), run.result.layers[-1]) for run in runs if run.result]
    return [(name, _cut(layer, last)) for name, layer, last in cuts if layer]


def evaluated_differently(runs: Sequence[RunSummary]) -> str:
    """Return a warning where runs were evaluated on different test images, else an empty string."""
    digests = {run.result.test.digest for run in runs if run.result}
    return "The runs were evaluated on different images: compare them with care." if len(digests) > 1 else ""


def fidelity_sentences(runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return for each distilled run how much of its teacher it preserves."""
    found = [(run.name, run.result) for run in runs if run.result]
    said = [(name, result.comparison.sentence(result.nouns)) for name, result in found if result.comparison]
    return [(name, f"{sentence}.".replace(" %", "\u00a0%")) for name, sentence in said]


def health_sentences(runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return the sentence of training about the health of each run."""
    return [(run.name, run.health) for run in runs if run.health]


def evaluation(run: RunSummary) -> str:
    """Return when and where a run was evaluated; empty if it was not."""
    if not run.result:
        return ""
    result = run.result
    images = f"{result.train.images:,} + {plural(result.test.images, *result.nouns)}"
    where = ", ".join(f"{name} {value}" for name, value in result.hardware.items() if value)
    return f"Evaluated in {format_duration(result.seconds)} on {images} ({where})."


def percent(share: float) -> str:
    """Return a share with one decimal: 0.9634 -> `"96.3 %"`."""
    return f"{100 * share:.1f} %"


def network(backbone: EncoderConfig) -> str:
    """Return the network and the size of its images."""
    if not isinstance(backbone, BackboneConfig) or backbone.image_size is None:
        return backbone.name
    return f"{backbone.name} at {backbone.image_size} x {backbone.image_size} pixels"


def _cut(layer: LayerResult, last: LayerResult) -> str:
    if layer is last:
        return f"only the whole network, {plural(layer.depth, 'layer')}, comes within one standard error of its best."
    values, whole = layer.values, last.values
    knn, whole_knn = values["knn"], whole["knn"]
    assert knn is not None
    assert whole_knn is not None
    share = f"{(values['parameters'] or 0) / (whole['parameters'] or 1):.0%} of the parameters"
    ms, whole_ms = values.get("latency_ms"), whole.get("latency_ms")
    faster = f", {whole_ms / ms:.1f} times as fast" if ms and whole_ms else ""
    return (
        f"layer {layer.depth} of {last.depth} reaches {percent(knn)} "
        f"(the whole network {percent(whole_knn)}) with {share}{faster}."
    )
