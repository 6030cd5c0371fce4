"""The card of a network on the hub: what it is, how to load it, what it is worth, and which licenses bear on it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from limbeck.core.html import render
from limbeck.core.text import printable
from limbeck.evaluation.columns import measured_columns
from limbeck.evaluation.metric import STDERR, Column
from limbeck.evaluation.results import EvaluationResult, LayerResult
from limbeck.exports.readme import timm_code
from limbeck.models.encoder_io import NOT_IN_TIMM, Preprocessing
from limbeck.models.hub import HUB
from limbeck.models.licenses import license_fact

SHOWN = 1  # highest priority of a column in the table of results
REPORTED = {"knn": "k-NN accuracy", "linear": "linear probe accuracy"}
"""Columns of an evaluation that the metadata of the card has as well."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Contents of a model card."""

    name: str  # OWNER/NAME
    architecture: str  # for timm, or NOT_IN_TIMM
    network: str  # the name that timm has for the whole network
    depth: int
    dim: int
    preprocessing: Preprocessing
    label_names: Sequence[str]  # of a classifier; else empty
    accuracy: str  # of a classifier, in words; else ""
    config: dict[str, Any]  # of the run, without paths; empty where there was none
    result: EvaluationResult | None
    license: str | None  # of the network, as its owner states it
    data: Sequence[str]  # names of data sets on the hub


def write_card(facts: CardFacts) -> str:
    """Return the card in Markdown, with its metadata in YAML.

    Raises:
        ValueError: `huggingface_hub` refuses the metadata.
    """
    layers = facts.result.layers if facts.result else ()
    columns = _columns(layers)
    text = render(
        "card.md",
        metadata=_metadata(facts).to_yaml(),
        facts=facts,
        in_timm=facts.architecture != NOT_IN_TIMM,
        code=timm_code(facts.dim, f"{HUB}{facts.name}", classifier=bool(facts.label_names)),
        columns=[column.title for column in columns],
        rows=[_row(layer, columns, facts.depth) for layer in layers],
        method=_part(facts.config, "method").get("name"),
        sources=[source for key in ("teacher", "start") if (source := _source(facts.config, key))],
        labels=", ".join(map(_code, facts.label_names)),
    )
    return str(ModelCard(text))  # which reads the metadata again, and refuses what it does not know


def _code(text: str) -> str:
    """Return text that Markdown shows as it is: no HTML, link or emphasis."""
    plain = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def _metadata(facts: CardFacts) -> ModelCardData:
    in_timm = facts.architecture != NOT_IN_TIMM
    task = "image-classification" if facts.label_names else "image-feature-extraction"
    start = str(_part(facts.config, "start").get("name", ""))
    method = _part(facts.config, "method").get("name")
    return ModelCardData(
        license=facts.license,
        library_name="timm" if in_timm else "limbeck",
        pipeline_tag=task,
        tags=["limbeck", *(["timm"] if in_timm else []), *([method] if method else [])],
        datasets=list(facts.data) or None,
        base_model=start.removeprefix(HUB) if start.startswith(HUB) else None,
        model_name=facts.name.rpartition("/")[2],
        eval_results=_eval_results(facts, task) or None,
    )


def _eval_results(facts: CardFacts, task: str) -> list[EvalResult]:
    """Return the accuracies of the features that are sent, as the metadata of a card holds them."""
    layers = facts.result.layers if facts.result else ()
    values = next((layer.values for layer in layers if layer.depth == facts.depth), {})
    return [
        EvalResult(
            task_type=task,
            dataset_type="images",
            dataset_name="labeled images of the owner",  # which need not be of the data sets that it was trained on
            metric_type="accuracy",
            metric_name=title,
            metric_value=round(100 * value, 2),
        )
        for column, title in REPORTED.items()
        if (value := values.get(column)) is not None
    ]


def _columns(layers: Sequence[LayerResult]) -> list[Column]:
    """Return the columns of the table: accuracies with their errors and untrained lines, and the cost in arithmetic."""
    found = measured_columns([layer.values for layer in layers], "cost", "accuracy")
    return [column for column in found if column.priority <= SHOWN and not column.name.startswith("latency")]


def _row(layer: LayerResult, columns: Sequence[Column], depth: int) -> list[str]:
    """Return the cells of a layer; the one that is sent is in bold."""
    cells = [str(layer.depth), *(column.text(layer.values.get(column.name)) for column in columns)]
    names = ["layer", *(column.name for column in columns)]
    return [
        f"**{cell}**" if layer.depth == depth and not name.endswith(STDERR) else cell
        for name, cell in zip(names, cells, strict=True)
    ]


def _source(config: dict[str, Any], key: str) -> str:
    """Return the teacher or the start of a run in words, with its license as far as that is known."""
    found = _part(config, key)
    name, license = str(found.get("name") or ""), str(found.get("license") or "")
    if not name:
        return ""
    name = " + ".join([name, *map(str, found.get("further") or ())])
    known = license_fact(license, name) or (f"license {license}" if license else "it states no license")
    return f"{'Teacher' if key == 'teacher' else 'Started from'}: `{printable(name)}` ({known})"


def _part(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}
