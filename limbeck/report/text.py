"""The sentences of a report; all of them are safe to put into HTML."""

import json
import shlex
from collections.abc import Sequence
from html import escape

from limbeck.core.config import to_json
from limbeck.core.run_folder import METRICS
from limbeck.evaluate.results import Row
from limbeck.models.backbone import BackboneConfig
from limbeck.report.command import run_command
from limbeck.report.runs import Run, cheapest_cut
from limbeck.report.tables import comparison_table, percent


def summary(run: Run) -> str:
    """Method, network, images, epochs, and what came of it."""
    config = run.config
    images = f"{run.images:,} images" if run.images else "images"
    sentence = f"{run.method} on {images}, {config.training.epochs:g} epochs of {_network(config.backbone)}."
    if run.knn is None:
        return escape(sentence)
    return f"{escape(sentence)} k-NN accuracy of the last layer: <b>{percent(run.knn)} %</b>{_untrained(run)}."


def _network(backbone: BackboneConfig) -> str:
    args = "".join(f", {name} {value}" for name, value in backbone.args.items())
    return f"{backbone.name} ({backbone.image_size} x {backbone.image_size} pixels{args})"


def _untrained(run: Run) -> str:
    row = run.result.rows[-1] if run.result else None
    return f" (untrained {percent(row.random_knn)} %)" if row and row.random_knn is not None else ""


def what_is_missing(run: Run) -> list[str]:
    """Sentences with the command that fills each gap."""
    folder = shlex.quote(str(run.folder))
    evaluate = f"limbeck evaluate {folder} --train LABELLED/train --test LABELLED/test"
    gaps = [
        (not run.curves, f"Training has not logged anything yet (no {METRICS})."),
        (not run.finished, f"Training is not finished: {_code(f'limbeck resume {folder}')} goes on."),
        (run.finished and not run.result, f"Its layers are not evaluated yet: {_code(evaluate)} does it."),
    ]
    return [sentence for gap, sentence in gaps if gap]


def what_can_be_cut(runs: Sequence[Run]) -> str:
    """What the lowest good layer of each run keeps and saves, and a warning where runs saw different test images."""
    cuts = [(run.name, run.result, cheapest_cut(run.result)) for run in runs if run.result]
    items = [f"<li><b>{escape(name)}</b>: {_cut(row, result.rows[-1])}</li>" for name, result, row in cuts if row]
    different = len({result.test.digest for _, result, _ in cuts}) > 1
    warning = "<p>The runs were evaluated on different images: compare them with care.</p>" if different else ""
    return (f"<ul>{''.join(items)}</ul>" if items else "") + warning


def _cut(row: Row, last: Row) -> str:
    if row is last:
        return f"only the whole network, {row.tap} layers, comes within one point of its best."
    assert row.knn is not None
    assert last.knn is not None
    faster = f", {last.latency_ms / row.latency_ms:.1f} times as fast" if row.latency_ms and last.latency_ms else ""
    share = f"{row.parameters / last.parameters:.0%} of the parameters"
    return (
        f"layer {row.tap} of {last.tap} reaches {percent(row.knn)} % "
        f"(the whole network {percent(last.knn)} %) with {share}{faster}."
    )


def distilled(runs: Sequence[Run]) -> str:
    """What runs keep of their teachers; empty where none had one."""
    found = [(run.name, run.result.comparison) for run in runs if run.result and run.result.comparison]
    said = [(name, escape(comparison.sentence()).replace(" %", "&nbsp;%")) for name, comparison in found]
    items = "".join(f"<li><b>{escape(name)}</b>: {sentence}.</li>" for name, sentence in said)
    return (f"<ul>{items}</ul>" if items else "") + "".join(comparison_table(*pair) for pair in found)


def verdicts(runs: Sequence[Run]) -> str:
    """How each run ended, as training said it."""
    items = [f"<li><b>{escape(run.name)}</b>: {escape(run.health)}</li>" for run in runs if run.health]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def recipe(run: Run) -> str:
    """Commands, circumstances and configuration of a run."""
    config = json.dumps(to_json(run.config), indent=2)
    return f"<h3>{escape(run.name)}</h3>{_training(run)}{_evaluation(run)}{_folded('config.json', config)}"


def _training(run: Run) -> str:
    if not run.config.store:
        return "<p>It was trained on arrays in memory: repeat it from Python with the configuration below.</p>"
    return f"<pre>{escape(run_command(run.config, f'{run.folder}-again'))}</pre>"


def _evaluation(run: Run) -> str:
    if not run.result:
        return ""
    result = run.result
    images = f"{result.train.images:,} + {result.test.images:,} images"
    where = ", ".join(f"{name} {value}" for name, value in result.hardware.items() if value)
    return f'<p class="quiet">Evaluated in {result.seconds:.0f} s on {images} ({escape(where)}).</p>'


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
