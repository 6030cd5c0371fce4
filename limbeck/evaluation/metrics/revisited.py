"""Retrieval in the layout of revisited Oxford and Paris: easy, medium and hard queries, with junk left out.

Radenović, Iscen, Tolias, Avrithis and Chum, *Revisiting Oxford and Paris*, CVPR 2018; filipradenovic/revisitop be39832.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.data.revisited import Box, Query, Revisited, read_part
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, share_column
from limbeck.evaluation.models import Bank
from limbeck.metrics.retrieval import rank_database

KS = (1, 5, 10)
PROTOCOLS = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""Name -> lists of positives, and lists that are taken out of the ranking."""


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Rank the database for every query, at every depth."""
    found = inputs.data.revisited
    if found is None:
        return {}
    queries = _features(inputs, [(query.image, query.box) for query in found.queries], "queries")
    database = _features(inputs, [(image, None) for image in found.database], "database")
    return {depth: _values(found, queries[depth], database[depth]) for depth in inputs.depths}


def _features(inputs: MetricInputs, images: Sequence[tuple[Path, Box | None]], text: str) -> Bank:
    """Return the unit features of images with a longer side of the network's input size, one after the other."""
    model, rows = inputs.model, list[Bank]()
    for file, box in progress(images, inputs.data.description(f"{model.name}: {text}"), unit="images"):
        pixels = torch.from_numpy(read_part(file, box, model.image_size, model.unit).copy())
        rows.append(model.vectors(inputs.data, pixels.permute(2, 0, 1)[None] / 255))
    return {depth: F.normalize(torch.stack([row[depth] for row in rows]).float(), dim=1) for depth in inputs.depths}


def _values(found: Revisited, queries: Tensor, database: Tensor) -> Values:
    scores, values = queries @ database.mT, Values()
    for name, (positive, ignored) in PROTOCOLS.items():
        wanted, left_out = (_mask(found.queries, lists, database) for lists in (positive, ignored))
        ranked = rank_database(scores, wanted, left_out, KS)
        counts = ranked.average_precision.isfinite()
        means = torch.cat([ranked.average_precision[:, None], ranked.precision], dim=1)[counts].mean(dim=0).tolist()
        names = [f"revisited_{name}", *(f"revisited_{name}_p{k}" for k in KS)]
        values |= dict(zip(names, means if counts.any() else [None] * len(names), strict=True))
    return values


def _mask(queries: Sequence[Query], lists: Sequence[str], database: Tensor) -> Tensor:
    """Return which rows of the database each query has in one of its lists, [Q N]."""
    mask = torch.zeros(len(queries), len(database), dtype=torch.bool, device=database.device)
    for number, query in enumerate(queries):
        mask[number, [row for name in lists for row in getattr(query, name)]] = True
    return mask


def _columns(name: str, positives: str, priority: int) -> tuple[Column, ...]:
    mean = share_column(
        name=f"revisited_{name}",
        label=f"revisited, {name}",
        help=f"mean average precision (by trapezoids) of queries with boxes, whose positives are {positives} images "
        "(`--revisited`)",
        better="higher",
        priority=priority,
    )
    first = (
        share_column(
            name=f"revisited_{name}_p{k}",
            label=f"revisited, {name}, P@{k}",
            help=f"of these queries, share of positives among the first {k}, or up to the last positive",
            better="higher",
            priority=3,
        )
        for k in KS
    )
    return (mean, *first)


METRIC = Metric(
    group="accuracy",
    columns=(
        *_columns("easy", "the easy", 3),
        *_columns("medium", "the easy and the hard", 2),
        *_columns("hard", "the hard", 2),
    ),
    needs=frozenset({"any_shape"}),
    untrained=True,
    compute=compute,
)
