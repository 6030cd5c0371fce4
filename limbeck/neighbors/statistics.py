"""Statistics of a neighbor graph that show whether its bags are useful."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.neighbors.graph import Graph

DUPLICATE_COSINE = 0.999
"""Cosine above which two images count as copies or as frames of one film."""

WARNING_FRACTION = 0.2
"""Fraction of images with such a neighbor from which `GraphStatistics.warning` returns a sentence."""


@dataclass(frozen=True, kw_only=True)
class GraphStatistics:
    """Statistics of a graph of n rows with K neighbors each; fractions are in [0, 1]."""

    num_neighbors: int
    first_cosine: float
    """Mean cosine of the nearest neighbor."""
    last_cosine: float
    """Mean cosine of the K-th neighbor, over the rows that have one."""
    reciprocity: float
    """Fraction of the edges i -> j for which j -> i is an edge, too."""
    in_degree_skewness: float
    """Skewness of the in-degree; large where a few hubs are neighbors of very many (Radovanovic et al., JMLR 2010)."""
    max_in_degree: int
    """Largest number of rows that share a neighbor; K on average."""
    duplicate_fraction: float
    """Fraction of the rows whose nearest neighbor has a cosine above `DUPLICATE_COSINE`."""
    label_purity: float | None
    """Fraction of the edges between labeled rows that join equal labels; None without labels."""

    def summary(self) -> str:
        """Return the statistics as one sentence."""
        last = f", {self.last_cosine:.3f} at rank {self.num_neighbors}" if self.num_neighbors > 1 else ""
        purity = "" if self.label_purity is None else f"; {self.label_purity:.1%} of the neighbors share the label"
        return (
            f"mean cosine {self.first_cosine:.3f} at rank 1{last}; {self.reciprocity:.0%} of the edges are mutual; "
            f"largest in-degree {self.max_in_degree:,} (skewness {self.in_degree_skewness:.1f}){purity}"
        )

    def warning(self) -> str | None:
        """Return a sentence of advice where copies would fill many bags, else None."""
        if self.duplicate_fraction < WARNING_FRACTION:
            return None
        return (
            f"{self.duplicate_fraction:.0%} of the images have a neighbor with a cosine above {DUPLICATE_COSINE}, like "
            "frames of a film; a bag of copies adds little, so leave them out with "
            f"--method.max-similarity {DUPLICATE_COSINE}"
        )


def graph_statistics(graph: Graph, labels: NDArray[np.int64] | None = None) -> GraphStatistics:
    """Return the statistics of a graph; `labels` [N] are those of all feature rows, -1 where a row has none."""
    exists = graph.neighbors >= 0
    source = np.repeat(np.arange(len(graph.indices)), graph.neighbors.shape[1])[exists.ravel()]
    target = np.searchsorted(graph.indices, graph.neighbors[exists])  # both as positions in `indices`
    degree = np.bincount(target, minlength=len(graph.indices)).astype(float)
    first, last = (graph.cosines[exists[:, column], column] for column in (0, -1))
    std = degree.std()
    return GraphStatistics(
        num_neighbors=graph.neighbors.shape[1],
        first_cosine=_mean(first),
        last_cosine=_mean(last),
        reciprocity=_mean(np.isin(source * len(graph.indices) + target, target * len(graph.indices) + source)),
        in_degree_skewness=float((((degree - degree.mean()) / std) ** 3).mean()) if std else 0.0,
        max_in_degree=int(degree.max()),
        duplicate_fraction=float((graph.cosines[:, 0] > DUPLICATE_COSINE).mean()),
        label_purity=None if labels is None else _purity(labels[graph.indices[source]], labels[graph.indices[target]]),
    )


def _purity(source: NDArray[np.int64], target: NDArray[np.int64]) -> float | None:
    known = (source >= 0) & (target >= 0)
    return float((source == target)[known].mean()) if known.any() else None


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean()) if len(values) else 0.0
