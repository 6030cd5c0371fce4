"""The laws of bags, clusters against loops, and statistics against counting."""

import numpy as np
import pytest
from numpy.typing import NDArray

from limbeck.neighbors import search
from limbeck.neighbors.bags import cluster_bags, kmeans, knn_bags
from limbeck.neighbors.graph import Graph, build_graph
from limbeck.neighbors.search import BlockSize
from limbeck.neighbors.statistics import DUPLICATE_COSINE, graph_statistics
from tests.helpers.clusters import clustered, with_copies


def test_bags_of_a_graph_are_its_rows() -> None:
    graph = build_graph(clustered(100, 8), 5)
    np.testing.assert_array_equal(knn_bags(graph), graph.neighbors)


def test_bags_of_which_too_little_is_left_repeat() -> None:
    rows = np.array([[4, 6, -1, -1, -1], [-1] * 5, [2, 4, 6, 7, 1]], np.int32)
    graph = Graph(np.array([2, 4, 6]), rows, np.where(rows < 0, -np.inf, 0.5).astype(np.float32), "exact")
    assert knn_bags(graph).tolist() == [[4, 6, 4, 6, 4], [4, 4, 4, 4, 4], [2, 4, 6, 7, 1]]


def test_law_of_cluster_bags() -> None:
    """Everybody of the own cluster, nobody twice as long as there are enough, nobody oneself unless alone."""
    clusters = np.repeat([3, 0, 5, 1], [1, 4, 40, 7])[np.random.default_rng(0).permutation(52)]
    bags = cluster_bags(clusters, 5)
    assert (clusters[bags] == clusters[:, None]).all()
    sizes = np.bincount(clusters)[clusters]
    for row, (bag, size) in enumerate(zip(bags, sizes, strict=True)):
        assert (row in bag) == (size == 1)
        assert len(set(bag)) == min(5, max(1, size - 1))
    np.testing.assert_array_equal(bags, cluster_bags(clusters, 5))
    assert (bags != cluster_bags(clusters, 5, seed=1)).any()
    rows = np.arange(52) * 3 + 1
    np.testing.assert_array_equal(cluster_bags(clusters, 5, indices=rows), rows[bags])


def test_every_member_is_drawn_as_often() -> None:
    """Chi-square of 12 others over 4,000 seeds, 3 per bag; 31.3 is its 99.9 % quantile at 11 degrees of freedom."""
    bags = np.concatenate([cluster_bags(np.zeros(13, np.int64), 3, seed)[5] for seed in range(4000)])
    counts = np.bincount(bags, minlength=13)
    assert counts[5] == 0
    others = np.delete(counts, 5)
    assert ((others - 1000) ** 2 / 1000).sum() < 31.3


def kmeans_by_hand(unit: NDArray[np.float64], centres: NDArray[np.float64], rounds: int) -> NDArray[np.int64]:
    """Lloyd's two steps on the sphere; no cluster may run empty."""
    own = (unit @ centres.T).argmax(axis=1)
    for _ in range(rounds):
        sums = np.stack([unit[own == c].sum(axis=0) for c in range(len(centres))])
        centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        own = (unit @ centres.T).argmax(axis=1)
    return own


def test_kmeans_finds_the_clusters() -> None:
    features = clustered(400, 32, clusters=8, noise=0.2)
    draw = np.random.default_rng(0)
    draw.standard_normal((8, 32))
    truth = draw.integers(0, 8, 400)
    own = kmeans(features, 12)
    for cluster in range(12):
        assert len(set(truth[own == cluster])) <= 1


def test_kmeans_is_lloyds_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    features = clustered(300, 6, clusters=30, noise=1.0)
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    for rounds in (1, 3):
        monkeypatch.setattr("limbeck.neighbors.bags.MAX_ITERATIONS", 1)
        first = kmeans(features, 5)
        monkeypatch.setattr("limbeck.neighbors.bags.MAX_ITERATIONS", rounds + 1)
        centres = np.stack([unit[first == c].sum(axis=0) for c in range(5)])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        np.testing.assert_array_equal(kmeans(features, 5), kmeans_by_hand(unit, centres, rounds - 1))


def test_blocks_do_not_show_in_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    features = with_copies(300, 8)
    own = kmeans(features, 12)
    monkeypatch.setitem(search.BLOCK_SIZES, "cpu", BlockSize(7, 5))
    monkeypatch.setattr("limbeck.neighbors.bags.BLOCK", 13)
    np.testing.assert_array_equal(kmeans(features, 12), own)
    assert (kmeans(features, 12, seed=1) != own).any()


def test_empty_clusters_are_filled_again() -> None:
    """Four directions, one of them a hundred times: as centres it is drawn again and again."""
    features = np.concatenate([np.tile(np.eye(4)[0], (100, 1)), np.eye(4)[1:]])
    own = kmeans(features, 4)
    assert len(set(own[100:])) == 3
    assert not set(own[:100]) & set(own[100:])
    assert kmeans(features, 500).shape == (103,)


def test_statistics_are_what_one_counts() -> None:
    features, labels = with_copies(120, 8), np.random.default_rng(0).integers(-1, 3, 120)
    rows = np.arange(1, 120, 2)
    graph = build_graph(features, 4, indices=rows, max_similarity=0.9995)
    edges = {
        (i, j) for i, js in zip(graph.indices.tolist(), graph.neighbors.tolist(), strict=True) for j in js if j >= 0
    }
    degree = np.array([sum(j == i for _, j in edges) for i in rows], float)
    known = [(i, j) for i, j in edges if labels[i] >= 0 and labels[j] >= 0]
    found = graph_statistics(graph, labels)
    assert found.reciprocity == pytest.approx(sum((j, i) in edges for i, j in edges) / len(edges))
    assert found.in_degree_skewness == pytest.approx(((degree - degree.mean()) ** 3).mean() / degree.std() ** 3)
    assert found.max_in_degree == degree.max()
    assert found.label_purity == pytest.approx(np.mean([labels[i] == labels[j] for i, j in known]))
    assert found.first_cosine == pytest.approx(graph.cosines[:, 0].mean())
    assert found.last_cosine == pytest.approx(graph.cosines[:, 3].mean())
    assert found.duplicate_fraction == np.mean([cosine > DUPLICATE_COSINE for cosine in graph.cosines[:, 0]])
    assert graph_statistics(graph).label_purity is None
    assert graph_statistics(graph, np.full(120, -1)).label_purity is None


def test_films_are_warned_of() -> None:
    film = np.repeat(clustered(20, 16), 10, axis=0) + 1e-4
    warning = graph_statistics(build_graph(film, 3)).warning()
    assert warning is not None
    assert "100%" in warning
    assert "--method.max-similarity 0.999" in warning
    assert graph_statistics(build_graph(film, 3, max_similarity=DUPLICATE_COSINE)).warning() is None
    assert graph_statistics(build_graph(clustered(200, 16), 3)).warning() is None


def test_the_summary_has_every_number() -> None:
    graph = build_graph(np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], np.float32), 2)
    summary = graph_statistics(graph, np.array([0, 0, 1])).summary()
    for number in ("0.400 at rank 1", "0.000 at rank 2", "100%", "in-degree 2", "skewness 0.0", "33.3%"):
        assert number in summary, number
