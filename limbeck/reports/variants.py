"""The page and the table of a survey of exports: what every depth, input size and precision costs and keeps."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple, get_args

from limbeck.core.config import to_json
from limbeck.core.files import atomic_folder, write_json
from limbeck.core.html import render
from limbeck.core.text import format_bytes, plural
from limbeck.exports.result import Precision
from limbeck.exports.variants import Survey, Variant, pareto_front
from limbeck.reports.axis import value_axis
from limbeck.reports.charts import Charts, color
from limbeck.reports.plot import Line, Point, draw

PAGE, TABLE, DATA = "variants.html", "variants.csv", "variants.json"
COLUMNS = ("depth", "pixels", "precision", "features", "size", "ms", "median ms", "OpenVINO ms", "neighbors", "20-NN")
"""Heads of the columns of `row`."""
Value = Callable[[Variant], float]


class _Table(NamedTuple):
    """Rows of the page under a caption."""

    caption: str
    rows: list[list[str]]


def write_variants(survey: Survey, name: str, out: Path) -> None:
    """Write the new folder `out` with a page, a CSV and a JSON file of all variants.

    Args:
        survey: the variants.
        name: the network.
        out: the folder.

    Raises:
        UserError: the disk is full, or the place may not be written.
    """
    front = pareto_front(survey.variants)
    with atomic_folder(out.absolute()) as folder:
        (folder / PAGE).write_text(_page(survey, front, name), encoding="utf-8")
        (folder / TABLE).write_text(_csv(survey.variants), encoding="utf-8", newline="")
        write_json(folder / DATA, {"images": survey.images, "variants": [to_json(v) for v in survey.variants]})


def short(cells: Sequence[str]) -> list[str]:
    """Return those of `COLUMNS` or of a row that fit into 80 characters, without features and medians."""
    return [cell for name, cell in zip(COLUMNS, cells, strict=True) if name not in ("features", "median ms")]


def row(variant: Variant) -> list[str]:
    """Return the cells of a variant, as people read them."""
    return [
        str(variant.depth),
        str(variant.image_size),
        variant.precision,
        f"{variant.dim:,}",
        format_bytes(variant.file_bytes),
        f"{variant.latency_ms:.2f}",
        f"{variant.latency_median_ms:.2f}",
        "-" if variant.openvino_latency_ms is None else f"{variant.openvino_latency_ms:.2f}",
        f"{variant.neighbors:.1%}",
        "-" if variant.knn is None else f"{variant.knn:.1%}",
    ]


def headline(survey: Survey, front: Sequence[Variant]) -> str:
    """Describe the number of variants, and the images on which they were compared."""
    return (
        f"{plural(len(survey.variants), 'variant')} compared on {survey.images} images; no other one is better in "
        f"every respect than {len(front)} of them. The whole network in fp32 takes {survey.whole.latency_ms:.2f} ms "
        f"and {format_bytes(survey.whole.file_bytes)}."
    )


def openvino_sentences(variants: Sequence[Variant]) -> list[str]:
    """Return why variants have no latency in OpenVINO, each reason once."""
    counts = Counter(variant.openvino_missing for variant in variants if variant.openvino_missing)
    return [f"{plural(count, 'variant')} without a latency in OpenVINO: {reason}." for reason, count in counts.items()]


def _page(survey: Survey, front: Sequence[Variant], name: str) -> str:
    labels = (
        " The 20-NN accuracy is that of one half of the images in the other." if survey.whole.knn is not None else ""
    )
    return render(
        "variants.html",
        name=name,
        best=max(front, key=lambda v: v.neighbors),
        headline=headline(survey, front),
        meaning=(
            "Latency is that of one image on one thread of this CPU, in ONNX Runtime where nothing else is said. "
            "Neighbors are the ten nearest of "
            f"each image: the share that the whole network in fp32 finds as well.{labels} "
            f"{' '.join(openvino_sentences(survey.variants))}"
        ),
        charts=_charts(survey.variants),
        columns=COLUMNS,
        front=_Table("not dominated, fastest first", [row(v) for v in front]),
        every=_Table("all variants", [row(v) for v in sorted(survey.variants, key=lambda v: v.latency_ms)]),
    )


def _charts(variants: Sequence[Variant]) -> Charts:
    qualities: dict[str, Value] = {"neighbors kept": lambda v: 100 * v.neighbors}
    if all(v.knn is not None for v in variants):
        qualities["20-NN accuracy"] = lambda v: 100 * (v.knn or 0.0)
    costs: dict[str, Value] = {"latency, ms": lambda v: v.latency_ms, "size, MB": lambda v: v.file_bytes / 1e6}
    found = [
        draw(
            f"{quality} by {cost.partition(',')[0]}",
            [_line(variants, precision, index, costs[cost], qualities[quality]) for index, precision in _precisions()],
            value_axis([costs[cost](v) for v in variants], zero=True),
            cost,
            unit="%",
        )
        for quality in qualities
        for cost in costs
    ]
    return [chart for chart in found if chart is not None]


def _precisions() -> list[tuple[int, Precision]]:
    return list(enumerate(get_args(Precision)))


def _line(variants: Sequence[Variant], precision: Precision, index: int, cost: Value, quality: Value) -> Line:
    """Return the variants of a precision that are better than every cheaper one, from the cheapest on."""
    points, best = list[Point](), float("-inf")
    for variant in sorted((v for v in variants if v.precision == precision), key=lambda v: (cost(v), -quality(v))):
        if quality(variant) > best:
            best = quality(variant)
            points.append(Point(cost(variant), best, f"depth {variant.depth}, {variant.image_size} pixels"))
    return Line(precision, color(index), points)


def _csv(variants: Sequence[Variant]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Variant)])
    writer.writeheader()
    writer.writerows(asdict(variant) for variant in variants)
    return text.getvalue()
