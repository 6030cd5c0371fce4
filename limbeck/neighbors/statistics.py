"""What a neighbour graph looks like, before a student is asked to believe it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.neighbors.graph import Graph

COPY = 0.999
"""Cosine above which two images are taken for copies or frames of one film."""

MANY = 0.2
"""Share of the images with such a neighbour from which on `Statistics.warning` speaks."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of the graph of n rows with K neighbours each; shares in [0, 1]."""

    k: int
    first: float
    """Mean cosine of the first neighbour."""
    last: float
    """Mean cosine of the K-th neighbour, of the rows that have one."""
    reciprocity: float
    """Share of the edges i -> j for which there is j -> i."""
    skewness: float
    """Of the in-degree: how much hubs, neighbours of very many, stand out (Radovanovic et al., JMLR 2010)."""
    largest: int
    """The largest in-degree; K on average."""
    copies: float
    """Share of the rows whose first neighbour has a cosine above `COPY`."""
    purity: float | None
    """Share of the edges between labelled rows on which the labels agree; None without labels."""

    def summary(self) -> str:
        """The numbers, for people."""
        last = f" and {self.last:.3f} at rank {self.k}" if self.k > 1 else ""
        pure = "" if self.purity is None else f"; {self.purity:.1%} of the neighbours have the image's label"
        return (
            f"cosine {self.first:.3f} at rank 1{last}; {self.reciprocity:.0%} of the "
            f"edges are mutual; an image is among the neighbours of at most {self.largest:,} others "
            f"(skewness {self.skewness:.1f}){pure}"
        )

    def warning(self) -> str | None:
        """One sentence where copies would be the mates of many images."""
        if self.copies < MANY:
            return None
        return (
            f"{self.copies:.0%} of the images have a neighbour of cosine above {COPY}, as frames of a film do, and a "
            f"bag of such mates says little that is new: leave them out (--method.max-similarity {COPY})"
        )


def describe(graph: Graph, labels: NDArray[np.int64] | None = None) -> Statistics:
    """Statistics of a graph; `labels` [N] are those of all rows of the features, -1 where there is none."""
    there = graph.rows >= 0
    source = np.repeat(np.arange(len(graph.of)), graph.rows.shape[1])[there.ravel()]
    target = np.searchsorted(graph.of, graph.rows[there])  # both as positions in `of`
    degree = np.bincount(target, minlength=len(graph.of)).astype(float)
    first, last = (graph.cosines[there[:, column], column] for column in (0, -1))
    spread = degree.std()
    return Statistics(
        k=graph.rows.shape[1],
        first=_mean(first),
        last=_mean(last),
        reciprocity=_mean(np.isin(source * len(graph.of) + target, target * len(graph.of) + source)),
        skewness=float((((degree - degree.mean()) / spread) ** 3).mean()) if spread else 0.0,
        largest=int(degree.max()),
        copies=float((graph.cosines[:, 0] > COPY).mean()),
        purity=None if labels is None else _purity(labels[graph.of[source]], labels[graph.of[target]]),
    )


def _purity(mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> float | None:
    known = (mine >= 0) & (theirs >= 0)
    return float((mine == theirs)[known].mean()) if known.any() else None


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean()) if len(values) else 0.0
